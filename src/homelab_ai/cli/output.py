"""What commands print: tables for people, plain columns for a pipe, and JSON for scripts. And the figures in them."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_GAP = "  "
_LEAST_WIDTH = 10
_GB = 1_000_000_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def show(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = (), long: Collection[str] = ()
) -> None:
    """Print a table. Nothing is ever cut: a terminal has it folded, those columns first that are `long`.

    In a pipe a line is as long as it is. An empty cell is a dash, so that `awk` finds the others. Columns named in
    `right` hold figures.
    """
    console, cells = Console(highlight=False), [[cell or "-" for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not console.is_terminal:
        _show_plainly([columns, *cells], widths, right)
        return
    needed = [_LEAST_WIDTH if name in long else width for name, width in zip(columns, widths, strict=True)]
    is_wide = sum(needed) + len(_GAP) * len(columns) <= console.width
    table = Table(box=None, padding=(0, len(_GAP), 0, 0), pad_edge=False)
    for name in columns:
        whole = is_wide and name not in long
        table.add_column(name, overflow="fold", no_wrap=whole, justify="right" if name in right else "left")
    for row in cells:
        table.add_row(*map(escape, row))
    console.print(table)


def _show_plainly(lines: Sequence[Sequence[str]], widths: Sequence[int], right: Collection[str]) -> None:
    for line in lines:
        padded = [
            f"{space}{cell}" if name in right else f"{cell}{space}"
            for name, cell, width in zip(lines[0], line, widths, strict=True)
            for space in (" " * (width - cell_len(cell)),)
        ]
        print(_GAP.join(padded).rstrip())


def show_json(answer: Any) -> None:
    """Print what the service has answered."""
    print(json.dumps(answer, indent=2))


def errors() -> Console:
    """Return where progress and failures are told: standard error, which is plain when it is no terminal."""
    return Console(stderr=True, highlight=False, markup=False)


def memory(size: int) -> str:
    """Main memory or that of a GPU, in the GB (of 1024 MB) of the settings; empty for none."""
    if not size:
        return ""
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"


def disk(size: int) -> str:
    """Bytes of files, in the GB that disks are sold by and the hub shows."""
    return f"{size / _GB:.2f} GB" if size >= _GB else f"{size / _GB * 1000:.1f} MB"


def duration(seconds: float | None) -> str:
    """A time to wait or to have waited, in the largest unit of which there are two; empty for none."""
    if seconds is None:
        return ""
    for unit, name, digits in ((_DAY, "d", 1), (_HOUR, "h", 1), (_MINUTE, "min", 0)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds:.0f} s"
