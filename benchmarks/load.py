"""Many clients at once, and beside them another server's: `python -m benchmarks.load [URL FIELD]`.

Thirty-two connections ask for the vectors of short and of longer texts, one and thirty-two in a request. Without an
address it starts the service; with one, that server is asked in turns with it (Infinity: `.../embeddings input`). Needs
wrk (`apt-get install wrk`), which takes less of the machine than a client in Python would.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import machine
from benchmarks.table import Row, table
from demo.service import Service

WRK = shutil.which("wrk") or ""
_ROUNDS, _CONNECTIONS = 2, 32
_LOOKED_AT_SECONDS, _IDLE_PERCENT, _PATIENCE_SECONDS = 1, 15, 60
_CELLS = {
    "short texts, one in a request": (1, 9, 6),
    "short texts, 32 in a request": (32, 9, 8),
    "longer texts, one in a request": (1, 150, 8),
    "longer texts, 32 in a request": (32, 150, 40),
}
"""Texts in a request, words in the longest, and seconds: a slow server has to be done with a thousand long ones."""


def peer_of(arguments: list[str]) -> tuple[str, str] | None:
    """Return the other server that the command line names, if any: its address, and the field of a request's texts."""
    return (arguments[0], arguments[1]) if arguments else None


def measure(peer: tuple[str, str] | None, models: Path | None = None) -> list[Row]:
    """Return a row for each kind of load: texts in a second, ours and the peer's."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), models) as service:
        service.embed(["first"])
        for what, (count, longest, seconds) in _CELLS.items():
            ours, theirs = [], []
            for _ in range(_ROUNDS):
                ours.append(_texts_in_a_second(f"{service.url}/api/embed", "texts", count, longest, seconds))
                if peer:
                    theirs.append(_texts_in_a_second(*peer, count, longest, seconds))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True)) if peer else 0
            beside = f"{statistics.median(theirs):.0f}/s" if peer else ""
            rows.append(
                Row(
                    f"{_CONNECTIONS} connections, {what}",
                    f"{statistics.median(ours):.0f}/s",
                    beside,
                    f"{ratio:.1f}" if peer else "",
                )
            )
    return rows


def _texts_in_a_second(url: str, field: str, count: int, longest: int, seconds: int) -> float:
    variables = {"N": count, "LONGEST": longest, "FIELD": field, "WORDS": "LICENSE"}
    done = subprocess.run(
        [WRK, "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", "-s", "benchmarks/load.lua", url],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    _wait_until_idle()
    found = re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
    if not found or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(f"{url} did not answer everything:\n{done.stdout}")
    return float(found[1]) * count


def _wait_until_idle() -> None:
    """Wait until nobody works any more on what nobody waits for: a server may not notice that its clients have gone."""
    until = time.monotonic() + _PATIENCE_SECONDS  # on a machine that others use, it is never idle
    while psutil.cpu_percent(_LOOKED_AT_SECONDS) > _IDLE_PERCENT and time.monotonic() < until:
        pass


if __name__ == "__main__":
    console = Console(highlight=False)
    console.print(machine.describe())
    if not WRK:
        sys.exit("wrk is needed: apt-get install wrk")
    console.print(table(measure(peer_of(sys.argv[1:])), _ROUNDS))
