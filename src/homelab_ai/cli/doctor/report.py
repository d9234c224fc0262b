"""The doctor's findings, for people."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from homelab_ai.cli.doctor.findings import Finding, Level

_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def show(findings: Sequence[Finding]) -> None:
    """Print each finding, and below it the line that mends it: once, where the next is mended by the same."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding, following in zip_longest(findings, findings[1:]):
        style = _STYLES[finding.level]
        table.add_row(f"[{style}]{finding.level}[/]", escape(finding.subject), escape(finding.saw))
        if finding.mend and (not following or following.mend != finding.mend):
            table.add_row("", "", f"[bold]> {escape(finding.mend)}[/]")
    Console(highlight=False).print(table)
