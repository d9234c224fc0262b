"""Commands as a user types them: in this process, where that makes no difference, or in one of their own."""

import os
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from homelab_ai.cli import cli


def run(url: str, *arguments: str | Path, stdin: bytes = b"") -> Result:
    """Run it to its end, in this process."""
    environment = {"HOMELAB_AI_URL": url, "HOMELAB_AI_API_KEY": None, "COLUMNS": "120"}
    done = CliRunner().invoke(cli, [*map(str, arguments)], input=stdin, env=environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception  # a user would see a traceback
    return done


def typed(*arguments: str | Path) -> list[str]:
    """The command line, for a process of its own."""
    return [sys.executable, "-m", "homelab_ai", *map(str, arguments)]


def environment(url: str) -> dict[str, str]:
    """What goes with it: where the service is, and no key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AI")}
    return inherited | {"HOMELAB_AI_URL": url, "COLUMNS": "120"}
