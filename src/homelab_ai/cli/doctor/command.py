"""What is typed: `homelab-ai doctor`.

Exit status: 0 nothing has to be mended; 1 something has, or no service answers that was to be asked; 2 the command line
is wrong.
"""

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from homelab_ai.cli.doctor.findings import Finding


def doctor(
    url: Annotated[str, typer.Option(envvar="HOMELAB_AI_URL", help="Where the service is.")] = "http://127.0.0.1:8000",
    config: Annotated[
        Path | None,
        typer.Option(help="The service's configuration file. Without it: $HOMELAB_AI_CONFIG, or config.yaml here."),
    ] = None,
    *,
    egress: Annotated[
        bool, typer.Option("--egress", help="Ask the running service for pages that it must not fetch.")
    ] = False,
    online: Annotated[bool, typer.Option("--online", help="Look at what is in the internet, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rather than a table.")] = False,
) -> None:
    """Look at the machine, the configuration and the running service: what has to be mended, and how. Changes nothing.

    With --egress: see that the running service fetches no page of this machine, of the home or of a cloud's own
    services, but those that its configuration opens. Its API key, with the scope crawl, is taken from
    HOMELAB_AI_API_KEY; where a page is let through, it is really fetched.
    """
    from homelab_ai.cli.client import ServiceUnavailableError  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.settings import ConfigurationError  # noqa: PLC0415

    try:
        findings, more = (_egress if egress else _checkup)(url, config, online=online)
    except (ServiceUnavailableError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    _finish(findings, {"url": url, **more}, as_json=as_json)


def _checkup(url: str, config: Path | None, *, online: bool) -> "tuple[Sequence[Finding], dict[str, Any]]":
    from rich.console import Console  # noqa: PLC0415

    from homelab_ai.cli.client import Client  # noqa: PLC0415
    from homelab_ai.cli.doctor.checkup import examine  # noqa: PLC0415

    with contextlib.closing(Client(url)) as service, Console(stderr=True).status("looking ..."):
        return [*examine(service, config, online=online)], {}


def _egress(url: str, config: Path | None, *, online: bool) -> "tuple[Sequence[Finding], dict[str, Any]]":
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    from homelab_ai.cli.client import Client, own_key  # noqa: PLC0415
    from homelab_ai.cli.doctor.egress import examine  # noqa: PLC0415
    from homelab_ai.settings import load_settings  # noqa: PLC0415

    settings = load_settings(config)
    with contextlib.closing(Client(url)) as service, Console(stderr=True).status("") as status:
        found = examine(
            service,
            url,
            settings,
            key=own_key(),
            online=online,
            tell=lambda page: status.update(f"asking for {escape(page)} ..."),
        )
    return found.findings, {"attempts": [attempt.as_json() for attempt in found.attempts]}


def _finish(findings: "Sequence[Finding]", more: dict[str, Any], *, as_json: bool) -> None:
    from homelab_ai.cli.doctor.findings import has_problem  # noqa: PLC0415
    from homelab_ai.cli.doctor.report import show  # noqa: PLC0415

    if as_json:
        print(json.dumps({**more, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        show(findings)
    if has_problem(findings):
        raise typer.Exit(1)
