"""Captions: one image, and many at once, in turns with plain transformers. Alone: `python -m benchmarks.captions`."""

import http.client
import json
import os
import statistics
import subprocess
import sys
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
from benchmarks.table import ROUNDS, Row, table
from demo.service import Service

_CLIENTS = 8
_BATCHES = (1, 2, 4, 8)
_CONFIG = """
models: {{text_embedding: [], image_caption: [{{id: base, hf_model: {folder}, precision: {precision}}}]}}
"""


class Peer:
    """Plain transformers."""

    def __init__(self, folder: Path, image: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.caption_peer", str(folder), str(image)],
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        assert json.loads(self._process.stdout.readline()) == "ready"

    def caption(self, count: int) -> float:
        """Return the seconds that it takes over so many images at once."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def measure() -> list[Row]:
    """Every row about captions, with a model of the shape of blip-image-captioning-base."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "image.jpg"
        noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image, quality=90)
        peer = Peer(folder / "model", image)
        try:
            (folder / "config.yaml").write_text(_CONFIG.format(folder=folder / "model", precision="auto"))
            with Service(folder) as service:
                return _measure(service, peer, folder)
        finally:
            peer.close()


def _measure(service: Service, peer: Peer, folder: Path) -> list[Row]:
    pictures = _pictures(folder)
    _caption(service, pictures[:1])
    peer.caption(1)
    one, its_one, many, best, its_best = [], [], [], [], []
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for _ in range(ROUNDS):
            one.append(_caption(service, pictures[:1]))
            its_one.append(peer.caption(1))
            started = time.perf_counter()
            list(pool.map(lambda picture: _caption(service, [picture]), pictures))
            many.append((time.perf_counter() - started) / _CLIENTS)
            best.append(min(_caption(service, pictures[:size]) / size for size in _BATCHES))
            its_best.append(min(peer.caption(size) / size for size in _BATCHES))
    return [
        _compared(f"a caption of {TOKENS} tokens, BLIP-base's shape", one, its_one),
        _compared(f"{_CLIENTS} clients at once, each image; beside its best batch", many, its_best),
        _compared(f"{_CLIENTS} clients at once, each image; beside our best batch", many, best),
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


def _compared(what: str, ours: list[float], theirs: list[float]) -> Row:
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Row(what, f"{statistics.median(ours):.2f} s", f"{statistics.median(theirs):.2f} s", f"{ratio:.2f}")


if __name__ == "__main__":
    console = Console(highlight=False)
    console.print(machine.describe())
    console.print(table(measure()))
