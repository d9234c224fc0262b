"""`make bench`: start, memory and speed of the service, each beside its limit or its peer, in one run.

The peers are plain sentence-transformers and plain transformers in float32, each in a process of its own, Crawl4AI, and
another embedding server where one is named: `make bench ARGS="http://127.0.0.1:7997/embeddings input"`. With
`--pages FOLDER` real pages are crawled rather than some of the benchmark's own, and their main content is scored
(`benchmarks.extraction` says in which form they are).
Service and peer take turns, so that a machine which slows down slows both.
"""

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import captions, crawling, embedding, endurance, extraction, load, machine, on_demand, overhead
from benchmarks.table import ROUNDS, Row, table
from demo.service import Service

random.seed(1)  # every run measures the same texts


def main() -> None:
    """Measure everything and print the table."""
    arguments = argparse.ArgumentParser(prog="benchmarks", description="Measure this machine.")
    arguments.add_argument("peer", nargs="*", metavar="URL FIELD", help="another embedding server to stand beside")
    arguments.add_argument("--pages", type=Path, metavar="FOLDER", help="web pages with their main content")
    given = arguments.parse_args()
    console = Console(highlight=False)
    console.print(machine.describe())
    peer = load.peer_of(given.peer)
    with tempfile.TemporaryDirectory() as models:
        with console.status("starting the service several times ..."):
            rows = measure_start()
            rows += overhead.measure()
        with console.status("embedding, in turns with plain sentence-transformers ..."):
            rows += embedding.measure(Path(models))
        with console.status("loading and unloading ..."):
            rows += on_demand.measure(Path(models))
        with console.status("with 32 connections ..."):
            rows += load.measure(peer, Path(models)) if load.WRK else []
        with console.status("a hundred thousand texts ..."):
            rows += endurance.measure(Path(models))
        with console.status("captioning, in turns with plain transformers ..."):
            rows += captions.measure()
        with console.status("crawling, in turns with Crawl4AI ..."):
            rows += crawling.measure(given.pages, console)
        if given.pages:
            with console.status("reading pages, and trafilatura beside ..."):
                rows += extraction.measure(given.pages)
    console.print(table(rows))
    if not load.WRK:
        console.print("What 32 connections get is left out: wrk is needed for that (apt-get install wrk)")
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


if __name__ == "__main__":
    main()
