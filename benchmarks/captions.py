"""Captions: one image, and many at once, in turns with plain transformers. Alone: `python -m benchmarks.captions`."""

import http.client
import json
import statistics
import tempfile
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks import machine
from benchmarks.caption_peer import TOKENS
from benchmarks.program import Program
from benchmarks.table import ROUNDS, Row, compared, table
from demo.service import Service

_CLIENTS = 8
_BATCHES = (1, 2, 4, 8)
_CONFIG = """
models: {{text_embedding: [], image_caption: [{{id: base, hf_model: {folder}, precision: {precision}}}]}}
"""


def measure() -> list[Row]:
    """Every row about captions, with a model of the shape of blip-image-captioning-base."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "image.jpg"
        noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image, quality=90)
        peer = Program("benchmarks.caption_peer", str(folder / "model"), str(image))
        try:
            (folder / "config.yaml").write_text(_CONFIG.format(folder=folder / "model", precision="auto"))
            with Service(folder) as service:
                return _measure(service, peer, folder)
        finally:
            peer.close()


def _measure(service: Service, peer: Program, folder: Path) -> list[Row]:
    pictures = _pictures(folder)
    _caption(service, pictures[:1])
    peer.ask(1)
    one, its_one, many = [], [], []
    batches: dict[int, list[float]] = {size: [] for size in _BATCHES}
    its_batches: dict[int, list[float]] = {size: [] for size in _BATCHES}
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for _ in range(ROUNDS):
            one.append(_caption(service, pictures[:1]))
            its_one.append(peer.ask(1))
            started = time.perf_counter()
            list(pool.map(lambda picture: _caption(service, [picture]), pictures))
            many.append((time.perf_counter() - started) / _CLIENTS)
            for size in _BATCHES:
                batches[size].append(_caption(service, pictures[:size]) / size)
                its_batches[size].append(peer.ask(size) / size)
    best, its_best = (min(each.values(), key=statistics.median) for each in (batches, its_batches))
    return [
        compared(f"a caption of {TOKENS} tokens, BLIP-base's shape", one, its_one, "s", 1),
        compared(f"{_CLIENTS} clients at once, each image; beside its best batch", many, its_best, "s", 1),
        compared(f"{_CLIENTS} clients at once, each image; beside our best batch", many, best, "s", 1),
    ]


def _pictures(folder: Path) -> list[str]:
    """Different images, for equal ones are looked at once."""
    dice, pictures = np.random.default_rng(2), []
    for _ in range(_CLIENTS):
        file = folder / "picture.jpg"
        Image.fromarray(dice.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(file, quality=90)
        pictures.append(b64encode(file.read_bytes()).decode())
    return pictures


def _caption(service: Service, pictures: list[str]) -> float:
    """Return the seconds that the service takes over these images in one request."""
    started = time.perf_counter()
    connection = service.connect()
    body = json.dumps({"batch": pictures, "max_new_tokens": TOKENS})
    connection.request("POST", "/api/caption", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == http.client.OK, answer
    assert all(item.get("caption") for item in answer["captions"]), answer
    return time.perf_counter() - started


if __name__ == "__main__":
    console = Console(highlight=False)
    console.print(machine.describe())
    console.print(table(measure()))
