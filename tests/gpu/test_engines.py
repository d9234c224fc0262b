"""The torch engines on a GPU: half precision that passes the gate, captions word for word, and no room left."""

import gc
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from homelab_ai.captioning.engines.torch import Blip
from homelab_ai.embedding.engines.torch import TorchEmbeddings
from models import shapes
from support.reference import MINILM, TEXTS, cosines, vectors_of_texts

SHAPES = Path(shapes.__file__).with_name("blip-shapes")


def options(**wished: Any) -> dict[str, Any]:
    automatic = {"device": "cuda", "precision": "auto", "backend": "auto"}
    return automatic | {"max_length": None, "dimensions": None, "run_seconds": 60} | wished


def embeddings(**wished: Any) -> Any:
    return TorchEmbeddings(MINILM, options(**wished))


def vectors(engine: Any, texts: list[str]) -> tuple[np.ndarray[Any, Any], list[int]]:
    header, body = engine.run({}, orjson.dumps(texts))
    return np.frombuffer(body, dtype=np.float32).reshape(header["shape"]), header["truncated"]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test starts with an empty card, as far as this process goes."""
    yield
    gc.collect()
    torch.cuda.empty_cache()


def test_half_precision_is_chosen_where_it_passes_the_gate() -> None:
    engine = embeddings()
    described = engine.describe()
    found, truncated = vectors(engine, TEXTS)

    assert (described["precision"], described["device"]) == ("float16", "cuda:0")
    assert cosines(found, vectors_of_texts()).min() >= 0.999
    assert truncated == vectors(embeddings(precision="float32"), TEXTS)[1]
    assert described["gpu_memory_bytes"] > 2 * 22_000_000


def test_what_does_not_pass_the_gate_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.embedding.engines.gate.LEAST_COSINE", 1.1)
    engine = embeddings()

    assert engine.describe()["precision"] == "float32"
    assert cosines(vectors(engine, TEXTS)[0], vectors_of_texts()).min() >= 0.99999


def test_float32_is_exact_and_belongs_to_the_same_database() -> None:
    exact, half, rough = embeddings(precision="float32"), embeddings(), embeddings(precision="bfloat16")

    assert cosines(vectors(exact, TEXTS)[0], vectors_of_texts()).min() >= 0.99999
    assert exact.describe()["fingerprint"] == half.describe()["fingerprint"] != rough.describe()["fingerprint"]


def test_what_a_text_is_asked_together_with_makes_no_difference() -> None:
    engine = embeddings()
    alone = np.concatenate([vectors(engine, [text])[0] for text in TEXTS])

    assert cosines(alone, vectors(engine, TEXTS * 3)[0][: len(TEXTS)]).min() >= 0.9999


def test_a_pass_that_does_not_fit_is_done_in_parts() -> None:
    engine = embeddings(precision="float32")
    texts = [f"{number} " + "word " * 250 for number in range(2048)]
    expected, _ = vectors(engine, texts[:64])
    gc.collect()
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 120 * 2**20) / total)
    try:
        found, _ = vectors(engine, texts)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(200 * 2**20, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cosines(found[:64], expected).min() >= 0.9999
    assert np.isfinite(found).all()


def test_captions_are_right_word_for_word() -> None:
    engine = Blip(SHAPES, options(), "for a GPU")
    scenes = list(itertools.islice(shapes.scenes("gpu"), 64))
    body = packed([np.asarray(shapes.draw(scene)) for scene in scenes])
    _, answer = engine.run({"prompt": None, "max_new_tokens": 24, "num_beams": 1}, body)
    right = [said == shapes.caption(scene) for said, scene in zip(orjson.loads(answer), scenes, strict=True)]

    assert engine.describe()["device"] == "cuda:0"
    assert engine.describe()["precision"] == "bfloat16"
    assert sum(right) >= 61  # as it is on a CPU, in float32 and in bfloat16


def packed(images: list[np.ndarray[Any, Any]]) -> bytes:
    return b"".join(struct.pack("!II", image.shape[1], image.shape[0]) + image.tobytes() for image in images)
