"""Programs that check what is deployed: on the PATH, or in the environment that `make test` has set up."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PLACES = (None, f"{sys.prefix}/bin", "/usr/sbin")


def needed(program: str) -> str:
    """Where a program is; skips the test, saying so, where there is none."""
    found = next(filter(None, (shutil.which(program, path=place) for place in _PLACES)), None)
    return found or pytest.skip(f"{program} is not installed")


def passes(program: str, *arguments: str | Path) -> None:
    """Fail with what the program says if it finds something wrong."""
    done = subprocess.run([needed(program), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
