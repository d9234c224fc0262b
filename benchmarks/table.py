"""The table that `make bench` prints."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    beside: str
    ratio: str
    limited: bool = False
    """Whether it is beside a limit, which must hold."""


def table(rows: Sequence[Row], rounds: int = ROUNDS) -> Table:
    """Return them as a table for people."""
    shown = Table(title=f"medians of {rounds} rounds")
    for column in ("", "homelab-ai-api", "beside", "ratio"):
        shown.add_column(column, justify="left" if not column else "right")
    for row in rows:
        shown.add_row(row.what, row.ours, row.beside, row.ratio)
    return shown


def compared(what: str, ours: list[float], theirs: list[float], unit: str, scale: float) -> Row:
    """One row; the ratio is the median of the ratios of the rounds, ours to theirs."""
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    mine, other = statistics.median(ours) * scale, statistics.median(theirs) * scale
    return Row(what, f"{mine:.2f} {unit}", f"{other:.2f} {unit}", f"{ratio:.2f}")
