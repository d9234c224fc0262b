"""The fingerprint of a model's vectors: equal where vectors belong into one database, another where they do not."""

import hashlib
import json
import os
from pathlib import Path

from homelab_ai.models.files import places

_SAMPLES, _SAMPLE_BYTES = 256, 4096
_BEGINNING_BYTES = 1024**2
_DESCRIBES = (".json", ".txt", ".model")


def fingerprint(folder: Path, *, dimensions: int, window: int | None, exact: bool) -> str:
    """Return 16 hexadecimal digits for what decides about the vectors of the model in `folder`.

    That is all of its configuration (architecture, tokenizer, pooling, normalization, prompts), its weights, the
    dimensions that are left of it and the window in tokens. Of the weights, samples are read, with the size and the
    beginning, where safetensors lists all tensors: training changes them everywhere, and to read gigabytes would take
    longer than the load. `exact` is false where the calculation may be off by more than 0.001 in cosine; what is within
    that, in whatever precision, belongs together.
    """
    digest = hashlib.sha256(json.dumps([dimensions, window, exact]).encode())
    for file in sorted(folder.rglob("*")):
        if file.suffix in _DESCRIBES and file.is_file():
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    for file in sorted(places.weights(folder)):
        digest.update(f"{file.relative_to(folder)}\0".encode() + _sampled(file))
    return digest.hexdigest()[:16]


def _sampled(file: Path) -> bytes:
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        parts = [size.to_bytes(8, "big"), opened.read(_BEGINNING_BYTES)]
        for number in range(_SAMPLES):
            opened.seek(size * number // _SAMPLES)
            parts.append(opened.read(_SAMPLE_BYTES))
    return b"".join(parts)
