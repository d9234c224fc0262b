"""The service on a GPU, in turns with plain sentence-transformers and transformers: `python -m benchmarks.gpu`.

The peers run on the same card, in float32, as in their quickstarts; the service chooses half precision where it passes
its gate. `python -m benchmarks.load URL FIELD` compares it with another server there.
"""

import random
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import captions, machine
from benchmarks.embedding import Client, words
from benchmarks.program import Program
from benchmarks.table import ROUNDS, Row, compared, table
from demo.service import Service

_LISTS = {1: 100, 32: 20, 256: 8, 4096: 1}
"""Texts in a request, and how often a round asks."""


def main() -> None:
    """Measure everything and print the table."""
    random.seed(1)
    console = Console(highlight=False)
    console.print(machine.describe())
    console.print(table([*_embedding(), *captions.measure()]))


def _embedding() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        client = Client(service)
        cold = [client.ask(["first"])]
        peer = Program("benchmarks.peer")
        rows = [compared("first vector, nothing loaded", cold, [peer.about["seconds"]], "s", 1)]
        for count, repeats in _LISTS.items():
            ours, theirs = [], []
            for _ in range(ROUNDS):
                lists = [[words(random.randint(5, 150)) for _ in range(count)] for _ in range(repeats)]
                ours.append(statistics.median(map(client.ask, lists)))
                theirs.append(statistics.median(map(peer.ask, lists)))
            rows.append(compared(f"{count} texts of 5 to 150 words", ours, theirs, "ms", 1000))
        peer.close()
    return rows


if __name__ == "__main__":
    main()
