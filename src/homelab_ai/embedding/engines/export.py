"""Makes the export of one embedding model: `python -m homelab_ai.embedding.engines.export MODEL FOLDER [REVISION]`.

A program of its own, because torch is in it. It converts the whole pipeline of sentence-transformers into one OpenVINO
graph and then asks both the same questions (the gate). Only precisions whose every vector has a cosine of 0.999 or more
to that of torch in float32, and the same nearest neighbours, may be used. A model that cannot be exported, or passes in
no precision, is written down with the reason.
"""

import gc
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from homelab_ai.embedding.engines import exports, probes
from homelab_ai.embedding.engines.exports import Export
from homelab_ai.embedding.engines.openvino import PRECISIONS, OpenVinoEmbeddings, capabilities
from homelab_ai.embedding.engines.torch import pipeline
from homelab_ai.models.engines import cores
from homelab_ai.models.engines.openvino_runtime import ov
from homelab_ai.models.hosts import process

LEAST_COSINE = 0.999
_NEAR_TIE = 0.02
"""Of two neighbours either may be the nearest that differ by no more than this part of how far the nearest stands out:
some models put all texts close together, and what tells them apart is small."""
_KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _NotPossible(Exception):
    """The model cannot be exported. The text says why, as the end of a sentence."""


class _Pipeline(torch.nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """The model as a function of tensors."""

    def __init__(self, model: SentenceTransformer, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self._model = model
        self._inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = dict(zip(self._inputs, tensors, strict=True))
        vectors: torch.Tensor = self._model(features)["sentence_embedding"]
        return vectors if self._model.truncate_dim is None else vectors[:, : self._model.truncate_dim]


def main() -> None:
    """Make it, or write down why there is none."""
    process.end_with_the_parent()
    folder, where, *named = sys.argv[1:]
    revision = named[0] if named else None
    warnings.filterwarnings("ignore")
    torch.set_num_threads(cores.usable())
    try:
        exports.write(Path(where), _exported(Path(folder), Path(where), revision))
    except _NotPossible as reason:
        _say(str(reason))
        exports.write(Path(where), Export(revision, str(reason)))
    except Exception:  # noqa: BLE001 - whatever it was, it belongs into the log
        _say(traceback.format_exc())
        sys.exit(1)


def _exported(folder: Path, where: Path, revision: str | None) -> Export:
    model = pipeline(folder, "cpu", torch.float32).eval()
    tokenizer = _tokenizer(model)
    features = model.preprocess(["one text", "and another, which is longer"])
    inputs = tuple(name for name in _KNOWN_INPUTS if name in features)
    if unknown := [name for name, value in features.items() if torch.is_tensor(value) and name not in inputs]:
        raise _NotPossible(f"it wants {', '.join(unknown)} beside the tokens")
    texts = probes.texts(model.max_seq_length)
    expected = np.asarray(model.encode(texts, batch_size=8, show_progress_bar=False), dtype=np.float64)
    try:
        with torch.inference_mode():
            graph = ov.convert_model(_Pipeline(model, inputs), example_input=tuple(features[name] for name in inputs))
    except Exception as error:
        _say(f"{type(error).__name__}: {error}")
        raise _NotPossible("its architecture cannot be converted") from error
    ov.save_model(graph, where / exports.GRAPH, compress_to_fp16=False)
    tokenizer.backend_tokenizer.save(str(where / exports.TOKENIZER))
    export = Export(
        revision,
        None,
        inputs=inputs,
        dimensions=expected.shape[1],
        window=int(model.max_seq_length),
        prompt=model.prompts.get(model.default_prompt_name or "", ""),
        pad_id=int(tokenizer.pad_token_id or 0),
        pad_left=tokenizer.padding_side == "left",
    )
    del graph, model, tokenizer, features
    gc.collect()  # what follows needs the room
    return _judged(where, export, texts, _normalized(expected))


def _tokenizer(model: SentenceTransformer) -> Any:
    """Return its tokenizer. Raises `_NotPossible` for a model that is more than a transformer of texts."""
    first = model[0]
    if not isinstance(first, Transformer) or set(model.modalities) != {"text"}:
        raise _NotPossible("it is no plain transformer of texts")
    if not isinstance(model.max_seq_length, int):
        raise _NotPossible("it has no window")
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise _NotPossible("its tokenizer is not one of the fast ones")
    prompt = model.prompts.get(model.default_prompt_name or "", "")
    if prompt and not all(getattr(module, "include_prompt", True) for module in model):
        raise _NotPossible("it leaves its prompt out of the pooling")
    return tokenizer


def _judged(where: Path, export: Export, texts: list[str], expected: "np.ndarray[Any, np.dtype[np.float64]]") -> Export:
    """Put the gate's questions to the export. Returns it with the precisions that passed, or with the reason."""
    cosines: dict[str, float] = {}
    for precision, hint in PRECISIONS.items():
        if hint.upper() == "BF16" and "BF16" not in capabilities():
            continue
        try:
            found = _normalized(OpenVinoEmbeddings(where, export, precision).embed(texts)[0].astype(np.float64))
        except Exception as error:  # noqa: BLE001 - whatever a library raises, torch is still there
            _say(f"{precision}: {type(error).__name__}: {error}")
            continue
        least = float((found * expected).sum(axis=1).min())
        _say(f"{precision}: least cosine {least:.6f}")
        if least >= LEAST_COSINE and _same_neighbours(found, expected):
            cosines[precision] = round(least, 7)
        gc.collect()
    reason = None if cosines else "its export is not exact enough"
    if reason:
        for file in where.iterdir():
            file.unlink()
    return Export(**{**vars(export), "cosines": cosines, "reason": reason})


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")  # for the log of the service; libraries print to stderr what nobody needs


def _normalized(vectors: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float64).tiny))


def _same_neighbours(found: "np.ndarray[Any, Any]", expected: "np.ndarray[Any, Any]") -> bool:
    """Whether the nearest other text of each is the same, or one that is as near."""
    similarities, rightly = found @ found.T, expected @ expected.T
    usual = np.median(rightly, axis=1)
    np.fill_diagonal(similarities, -np.inf)
    np.fill_diagonal(rightly, -np.inf)
    nearest = rightly.max(axis=1)
    chosen = rightly[np.arange(len(rightly)), similarities.argmax(axis=1)]
    return bool((nearest - chosen <= _NEAR_TIE * (nearest - usual)).all())


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # nothing here is worth a clean exit, which takes OpenVINO and torch a second
