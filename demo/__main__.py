"""Starts the service, embeds eight sentences, and shows which of them mean the same. Run by `make demo`.

A real service on a free port of this machine, with data of its own that is gone afterwards. Only the models folder is
that of `make run`: what is exported for the one need not be exported for the other.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from demo.service import Service

SENTENCES = Path(__file__).with_name("sentences.txt").read_text().splitlines()
console = Console()


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), Path("models").absolute()) as service:
        console.print(f"A service for the length of this demonstration runs on {service.url}", highlight=False)
        with console.status("Loading all-MiniLM-L6-v2 and embedding eight sentences ..."):
            started = time.monotonic()
            first = service.embed(SENTENCES)
            cold = time.monotonic() - started
        started = time.monotonic()
        service.embed(SENTENCES)
        warm = time.monotonic() - started
    show(np.array(first))
    console.print(
        f"\nThe first answer took {cold:.1f} s, with the start of the model; the second {warm * 1000:.0f} ms.",
        highlight=False,
    )


def show(vectors: np.ndarray) -> None:
    """Print how alike each two sentences are, from -100 to 100, and each sentence's closest."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = np.rint(unit @ unit.T * 100).astype(int)
    np.fill_diagonal(alike, -101)
    table = Table(
        title="How alike two sentences are (cosine x 100)", caption="in each row, the most similar sentence is bold"
    )
    table.add_column("", justify="right")
    table.add_column("sentence")
    for number in range(1, len(SENTENCES) + 1):
        table.add_column(str(number), justify="right")
    for row, sentence in enumerate(SENTENCES):
        best = int(alike[row].argmax())
        cells = [
            "" if column == row else f"[bold green]{value}[/]" if column == best else f"[dim]{value}[/]"
            for column, value in enumerate(alike[row].tolist())
        ]
        table.add_row(str(row + 1), sentence, *cells)
    console.print(table)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
