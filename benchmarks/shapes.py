"""What embedding models of well-known shapes take: `python -m benchmarks.shapes [SHAPE...]`.

A shape is what decides memory and time: layers, width, and how many words the model has. The models are made here, with
random weights and made-up words. So they take what their originals do, and say nothing.
"""

import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.program import Program
from benchmarks.shapes_model import made_up_words
from benchmarks.table import ROUNDS
from demo.service import Service

_MB = 1024**2


@dataclass(frozen=True)
class Shape:
    """One kind of transformer, and a model that is of it."""

    like: str
    layers: int
    heads: int
    width: int
    words: int


SHAPES = {
    "minilm-l6": Shape("all-MiniLM-L6-v2", 6, 12, 384, 30_522),
    "minilm-l12-multilingual": Shape(
        "paraphrase-multilingual-MiniLM-L12-v2, multilingual-e5-small", 12, 12, 384, 250_037
    ),
    "base": Shape("bge-base-en-v1.5, all-mpnet-base-v2", 12, 12, 768, 30_522),
    "base-multilingual": Shape("multilingual-e5-base", 12, 12, 768, 250_037),
}


def main() -> None:
    """Measure the shapes that are named, or all of them, each by itself."""
    shown = Table("like", "runs in", "weights", "first load", "load", "memory", "after lists", "a text", "of 128 words")
    for name in sys.argv[1:] or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            shown.add_row(SHAPES[name].like, *_measure(SHAPES[name], Path(folder)))
    console = Console(width=160)
    console.print(machine.describe())
    console.print(shown)


def _measure(shape: Shape, folder: Path) -> list[str]:
    model = folder / "model"
    words = made_up_words(shape.words)
    Program("benchmarks.shapes_model", str(model), json.dumps(vars(shape))).close()
    (folder / "config.yaml").write_text(
        f"models: {{image_caption: [], text_embedding: [{{id: it, hf_model: {model}}}]}}\nbatching: {{window_ms: 0}}\n"
    )
    dice = random.Random(3)

    def text(length: int) -> str:
        return " ".join(dice.choices(words, k=length))

    with Service(folder) as service:
        first = _seconds(service, [text(8)])
        _post(service, "/api/models/it/unload")
        again = _seconds(service, [text(8)])
        fresh = _about(service)
        short = statistics.median(_seconds(service, [text(8)]) for _ in range(20 * ROUNDS))
        many = statistics.median(_seconds(service, [text(128) for _ in range(32)]) for _ in range(ROUNDS)) / 32
        used = _about(service)
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return [
        f"{used['backend']}, {used['precision']}",
        f"{weights / 1e6:.0f} MB",
        f"{first:.1f} s",
        f"{again:.1f} s",
        f"{fresh['memory_bytes'] / _MB:.0f} MB",
        f"{used['memory_bytes'] / _MB:.0f} MB",
        f"{1000 * short:.1f} ms",
        f"{1000 * many:.1f} ms",
    ]


def _seconds(service: Service, texts: list[str]) -> float:
    started = time.perf_counter()
    service.embed(texts)
    return time.perf_counter() - started


def _post(service: Service, path: str) -> None:
    connection = service.connect()
    connection.request("POST", path)
    assert connection.getresponse().status == http.HTTPStatus.OK


def _about(service: Service) -> dict[str, Any]:
    """What the service says of the model, once it has been idle for so long that it was measured again."""
    time.sleep(2)
    connection = service.connect()
    connection.request("GET", "/api/models/it")
    about: dict[str, Any] = json.loads(connection.getresponse().read())
    return about


if __name__ == "__main__":
    main()
