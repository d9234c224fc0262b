"""`make load`: a mixed day with more and more clients, as a picture: `python -m benchmarks.day [PICTURE]`.

Locust asks (`benchmarks/locustfile.py`), from a process of its own on the same machine, a service with MiniLM, a model
of the shape of blip-image-captioning-base, and a web site on loopback to read (`benchmarks.site`).
"""

import csv
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.crawling import site
from benchmarks.program import Program
from demo.service import Service

_CLIENTS = (1, 2, 4, 8, 16, 32)
_SECONDS = 40
_CONFIG = """
models: {{image_caption: [{{id: base, hf_model: {folder}}}]}}
crawl: {{allow_networks: [127.0.0.1/32], allow_ports: [{port}]}}
"""
_TOTAL = "Aggregated"


@dataclass(frozen=True)
class Figures:
    """Of one kind of request, with so many clients."""

    clients: int
    what: str
    per_second: float
    median_ms: float
    p95_ms: float
    failures: int


def main() -> None:
    """Measure, print the table and draw the picture."""
    console = Console(highlight=False)
    console.print(machine.describe())
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(folder / "image.jpg")
        Program(
            "benchmarks.caption_peer", str(folder / "model"), str(folder / "image.jpg")
        ).close()  # it makes the model
        with site() as (port, paths):
            pages = [f"http://127.0.0.1:{port}{path}" for path in paths]
            (folder / "config.yaml").write_text(_CONFIG.format(folder=folder / "model", port=port))
            with Service(folder) as service:
                _asked(service, folder, 4, pages)  # everything is loaded, and exported
                for clients in _CLIENTS:
                    with console.status(f"{clients} clients ..."):
                        found += _asked(service, folder, clients, pages)
    console.print(_table(found))
    if len(sys.argv) > 1:
        _draw(found, Path(sys.argv[1]))
    if failures := sum(each.failures for each in found):
        sys.exit(f"{failures} requests failed")


def _asked(service: Service, folder: Path, clients: int, pages: list[str]) -> list[Figures]:
    """Have so many clients ask for a while."""
    command = ["-f", "benchmarks/locustfile.py", "--headless", "--host", service.url, "--csv", str(folder / "stats")]
    rate = ["--users", str(clients), "--spawn-rate", str(clients), "--run-time", f"{_SECONDS}s", "--only-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "locust", *command, *rate, "--stop-timeout", "60"],
        env=os.environ | {"PAGES": " ".join(pages)},
        capture_output=True,
        text=True,
        check=False,
    )
    file = folder / "stats_stats.csv"
    if not file.exists():
        sys.exit(done.stderr)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    file.unlink()
    return [
        Figures(
            clients,
            row["Name"],
            float(row["Requests/s"]),
            float(row["Median Response Time"]),
            float(row["95%"]),
            int(row["Failure Count"]),
        )
        for row in rows
    ]


def _kinds(found: list[Figures]) -> list[str]:
    return list(dict.fromkeys(each.what for each in found if each.what != _TOTAL))


def _table(found: list[Figures]) -> Table:
    kinds = _kinds(found)
    table = Table("clients", "requests a second", *(f"{kind}: median, 95 of 100 within" for kind in kinds))
    for clients in _CLIENTS:
        row = {each.what: each for each in found if each.clients == clients}
        cells = [f"{row[kind].median_ms:.0f} ms, {row[kind].p95_ms:.0f} ms" if kind in row else "" for kind in kinds]
        table.add_row(str(clients), f"{row[_TOTAL].per_second:.1f}", *cells)
    return table


def _draw(found: list[Figures], file: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "the same picture for the same figures"
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for kind in _kinds(found):
        some = [each for each in found if each.what == kind]
        clients = [each.clients for each in some]
        left.plot(clients, [each.per_second for each in some], marker="o", label=kind)
        (line,) = right.plot(clients, [each.median_ms / 1000 for each in some], marker="o")
        right.plot(clients, [each.p95_ms / 1000 for each in some], marker=".", linestyle=":", color=line.get_color())
    left.set(title="requests a second", xlabel="clients", ylim=(0, None))
    right.set(title="seconds to the answer: median, and 95 of 100 (dotted)", xlabel="clients", yscale="log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(_CLIENTS, [str(clients) for clients in _CLIENTS])
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
