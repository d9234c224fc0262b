"""A hundred thousand texts in one process: no slower at the end, and no larger.

Alone: `python -m benchmarks.endurance`.
"""

import random
import statistics
import tempfile
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import machine
from benchmarks.embedding import Client, words
from benchmarks.table import Row, table
from demo.service import Service

_TEXTS, _IN_A_REQUEST = 100_000, 500
_PART = 0.1
"""Of them that is the start, and the end. What comes before the start brings the model and all shapes."""


def measure(models: Path) -> list[Row]:
    """Time per text and memory of the host, at the end beside the start."""
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), models) as service:
        client, times, sizes = Client(service), list[float](), list[int]()
        for _ in range(10):
            client.ask([words(random.randint(1, 20)) for _ in range(_IN_A_REQUEST)])
        (host,) = psutil.Process(service.process.pid).children()
        for _ in range(_TEXTS // _IN_A_REQUEST):
            times.append(client.ask([words(random.randint(1, 20)) for _ in range(_IN_A_REQUEST)]) / _IN_A_REQUEST)
            sizes.append(host.memory_info().rss)
    part = int(len(times) * _PART)
    first, last = statistics.median(times[:part]) * 1000, statistics.median(times[-part:]) * 1000
    least, most = statistics.median(sizes[:part]) / 1e6, statistics.median(sizes[-part:]) / 1e6
    what = f"{_TEXTS:,} texts in one process, the last tenth beside the first"
    return [
        Row(f"{what}: a text", f"{last:.2f} ms", f"{first:.2f} ms", f"{last / first:.2f}"),
        Row(f"{what}: memory of the host", f"{most:.0f} MB", f"{least:.0f} MB", f"{most / least:.2f}"),
    ]


if __name__ == "__main__":
    console = Console(highlight=False)
    console.print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        console.print(table(measure(Path(folder))))
