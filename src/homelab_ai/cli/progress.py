"""How far a command is: a line on standard error, where a person looks at it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from homelab_ai.cli.writing import printable

_MEASURED_SECONDS = 30.0


class Shown:
    """The line, and what is said above it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int, size: float) -> None:
        """So many more are done; and so much of the total is."""
        done = self._progress.tasks[0].fields["count"] + count
        self._progress.update(self._task, advance=size, count=done, waiting="")

    def say(self, message: str) -> None:
        """Say something that stays."""
        self._progress.console.print(printable(message))

    def wait(self, message: str) -> None:
        """Say what is waited for, until something is done again."""
        self._progress.update(self._task, waiting=printable(message))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        count, elapsed = task.fields["count"], task.elapsed or 0.0
        rate = f", {count / elapsed:,.0f} a second" if count and elapsed else ""
        return Text(f"{count:,} {task.fields['unit']}{rate}")


@contextmanager
def showing(unit: str, total: float | None, *, beside_output: bool) -> Iterator[Shown]:
    """Show how far it is. `beside_output`: what is printed shows it already, where that goes to the same terminal."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    progress = Progress(
        SpinnerColumn(),
        BarColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[waiting]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        speed_estimate_period=_MEASURED_SECONDS,
        disable=not console.is_terminal or (beside_output and sys.stdout.isatty()),
    )
    with progress:
        yield Shown(progress, progress.add_task("", total=total, count=0, unit=unit, waiting=""))
