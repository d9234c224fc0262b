"""Embedding, in turns with plain sentence-transformers, and beside what the processor could do at best."""

import contextlib
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

from benchmarks.program import Program
from benchmarks.table import ROUNDS, Row, compared
from demo.service import Service

WORDS = Path("LICENSE").read_text().split()
_MULTIPLICATIONS_PER_TOKEN = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
"""Of MiniLM's matrix products; attention itself comes on top, and is less than a tenth."""


class Client:
    """One connection to the service, as plain as Python has it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connection = service.connect()

    def ask(self, texts: list[str]) -> float:
        """Return the seconds from the request to the vectors."""
        started = time.perf_counter()
        self._service.embed(texts, self._connection)
        return time.perf_counter() - started


def measure(models: Path) -> list[Row]:
    """From cold, one short text, lists, and what is left of the processor's best."""
    with _service(models) as service:
        first = Client(service).ask(["first"])
    cold, peer_cold = [], []
    for _ in range(ROUNDS):
        peer = Program("benchmarks.peer")
        peer_cold.append(peer.about["seconds"])
        peer.close()
        with _service(models) as service:
            cold.append(Client(service).ask(["first"]))
    rows = [
        Row("first vector ever: the model is exported", f"{first:.2f} s", "", ""),
        compared("first vector, nothing loaded", cold, peer_cold, "s", 1),
    ]
    peer, engine = Program("benchmarks.peer"), Program("benchmarks.engine", str(models))
    with _service(models) as service:
        client = Client(service)
        client.ask(["first"])
        (host,) = psutil.Process(service.process.pid).children()
        rows.append(_memory("memory of the host, model just loaded", host, peer))
        for what, texts, repeats in (
            ("one short text, warm", lambda: [words(6)], 100),
            ("32 texts of 5 to 150 words", lambda: [words(random.randint(5, 150)) for _ in range(32)], 3),
        ):
            rows.append(compared(what, *_in_turns(client, peer, texts, repeats), "ms", 1000))
        with busy_neighbours():
            ours, theirs = _in_turns(client, peer, lambda: [words(6)], 60, percentile=90)
        rows.append(compared("one short text, busy cores, p90", ours, theirs, "ms", 1000))
        ours, theirs = _in_turns(client, engine, lambda: [words(6)], 100)
        rows.append(compared("one short text, beside the bare engine", ours, theirs, "ms", 1000))
        rows.append(_beside_the_limit(client, engine))
        rows.append(_memory("memory of the host, after all that", host, peer))
    peer.close()
    engine.close()
    return rows


def _beside_the_limit(client: Client, engine: Program) -> Row:
    """Tokens in a second through HTTP on long lists, beside one matrix product of the same kind after the other."""
    ours, limits = [], []
    for _ in range(ROUNDS):
        texts = [words(random.randint(5, 150)) for _ in range(256)]
        tokens = engine.ask({"tokens_of": texts})
        ours.append(tokens / client.ask(texts))
        limits.append(engine.ask({"multiplications": 1}) / _MULTIPLICATIONS_PER_TOKEN)
    ratio = statistics.median(mine / limit for mine, limit in zip(ours, limits, strict=True))
    return Row(
        "tokens in a second, beside the limit of matrix products",
        f"{statistics.median(ours):.0f}/s",
        f"{statistics.median(limits):.0f}/s",
        f"{ratio:.2f}",
    )


def _memory(what: str, host: psutil.Process, peer: Program) -> Row:
    ours, theirs = host.memory_info().rss / 1e6, peer.about["bytes"] / 1e6
    return Row(what, f"{ours:.0f} MB", f"{theirs:.0f} MB", f"{ours / theirs:.2f}")


@contextlib.contextmanager
def _service(models: Path) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), models) as service:
        yield service


@contextlib.contextmanager
def busy_neighbours() -> Iterator[None]:
    """Another program on each core, as on a server that does more than this."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def _in_turns(
    client: Client, peer: Program, texts: Callable[[], list[str]], repeats: int, percentile: float = 50
) -> tuple[list[float], list[float]]:
    """Return the seconds of each round, ours and theirs, over the same texts: the median, or another percentile."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        batches = [texts() for _ in range(repeats)]
        ours.append(float(np.percentile([client.ask(batch) for batch in batches], percentile)))
        theirs.append(float(np.percentile([peer.ask(batch) for batch in batches], percentile)))
    return ours, theirs


def words(count: int) -> str:
    """Some text of so many words."""
    return " ".join(random.choices(WORDS, k=count))
