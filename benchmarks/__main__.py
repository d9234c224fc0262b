"""`make bench`: start, memory and speed of the service, each beside its limit or its peer, in one run.

The peer is plain sentence-transformers in float32 in a process of its own (`benchmarks/peer.py`). Service and peer take
turns, so that a machine which slows down slows both.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import machine, on_demand
from benchmarks.table import ROUNDS, Row
from demo.service import Service

WORDS = Path("LICENSE").read_text().split()
random.seed(1)  # every run measures the same texts


class Peer:
    """Plain sentence-transformers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer"],
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        loaded = json.loads(self._line())
        self.load_seconds: float = loaded["seconds"]
        self.bytes: int = loaded["bytes"]

    def encode(self, texts: list[str]) -> float:
        """Return the seconds that it takes over these texts."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


class Client:
    """One connection to the service, as plain as Python has it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connection = service.connect()

    def embed(self, texts: list[str]) -> float:
        """Return the seconds from the request to the vectors."""
        started = time.perf_counter()
        self._service.embed(texts, self._connection)
        return time.perf_counter() - started


def main() -> None:
    """Measure everything and print the table."""
    console = Console(highlight=False)
    console.print(machine.describe())
    with console.status("starting the service several times ..."):
        rows = measure_start()
    with console.status("embedding, in turns with plain sentence-transformers ..."):
        rows += measure_embedding()
    with console.status("loading and unloading ..."):
        rows += on_demand.measure()
    table = Table(title=f"medians of {ROUNDS} rounds")
    for column in ("", "homelab-ai-api", "beside", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(row.what, row.ours, row.beside, row.ratio)
    console.print(table)
    if over := [row.what for row in rows if row.limited and float(row.ratio) > 1]:
        sys.exit(f"over its limit: {', '.join(over)}")


def measure_start() -> list[Row]:
    """How soon the service is ready, and what it weighs with no model loaded."""
    seconds, weights = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
            seconds.append(service.seconds_to_ready)
            weights.append(psutil.Process(service.process.pid).memory_info().rss / 1e6)
    ready, weight = statistics.median(seconds), statistics.median(weights)
    return [
        Row("process started to /ready", f"{ready:.2f} s", "limit 1.50 s", f"{ready / 1.5:.2f}", limited=True),
        Row("memory, no model loaded", f"{weight:.0f} MB", "limit 100 MB", f"{weight / 100:.2f}", limited=True),
    ]


def measure_embedding() -> list[Row]:
    """From cold, one short text, and a list of 32 texts of mixed lengths."""
    cold, peer_cold = [], []
    for _ in range(ROUNDS):
        peer = Peer()
        peer_cold.append(peer.load_seconds)
        peer.close()
        with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
            cold.append(Client(service).embed(["first"]))
    rows = [compared("first vector, nothing loaded", cold, peer_cold, "s", 1)]
    peer = Peer()
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        client = Client(service)
        client.embed(["first"])
        (host,) = psutil.Process(service.process.pid).children()
        weight, peer_weight = host.memory_info().rss / 1e6, peer.bytes / 1e6
        for what, texts, repeats in (
            ("one short text, warm", lambda: [words(6)], 100),
            ("32 texts of 5 to 150 words", lambda: [words(random.randint(5, 150)) for _ in range(32)], 3),
        ):
            ours, theirs = in_turns(client, peer, texts, repeats)
            rows.append(compared(what, ours, theirs, "ms", 1000))
        with busy_neighbours():
            ours, theirs = in_turns(client, peer, lambda: [words(6)], 60, percentile=90)
        rows.append(compared("one short text, busy cores, p90", ours, theirs, "ms", 1000))
    peer.close()
    rows.append(
        Row(
            "memory of the process with the model",
            f"{weight:.0f} MB",
            f"{peer_weight:.0f} MB",
            f"{weight / peer_weight:.2f}",
        )
    )
    return rows


@contextlib.contextmanager
def busy_neighbours() -> Iterator[None]:
    """Another program on each core, as on a server that does more than this."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def in_turns(
    client: Client, peer: Peer, texts: Callable[[], list[str]], repeats: int, percentile: float = 50
) -> tuple[list[float], list[float]]:
    """Return the seconds of each round, ours and theirs, over the same texts: the median, or another percentile."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        batches = [texts() for _ in range(repeats)]
        ours.append(float(np.percentile([client.embed(batch) for batch in batches], percentile)))
        theirs.append(float(np.percentile([peer.encode(batch) for batch in batches], percentile)))
    return ours, theirs


def compared(what: str, ours: list[float], theirs: list[float], unit: str, scale: float) -> Row:
    """One row; the ratio is the median of the ratios of the rounds, ours to theirs."""
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    mine, other = statistics.median(ours) * scale, statistics.median(theirs) * scale
    return Row(what, f"{mine:.2f} {unit}", f"{other:.2f} {unit}", f"{ratio:.2f}")


def words(count: int) -> str:
    """Some text of so many words."""
    return " ".join(random.choices(WORDS, k=count))


if __name__ == "__main__":
    main()
