"""Makes the export of an embedding model.

The whole pipeline of sentence-transformers becomes one OpenVINO graph. It passes the gate in a precision where every
vector has a cosine of 0.999 or more to that of torch in float32, and the same nearest neighbours.
"""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from homelab_ai.embedding.engines import probes
from homelab_ai.embedding.engines.openvino import GRAPH, TOKENIZER, Facts, OpenVinoEmbeddings
from homelab_ai.embedding.engines.torch import pipeline
from homelab_ai.models.engines.exporting import NotPossibleError, converted, judged, say
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.engines.openvino_runtime import ov

LEAST_COSINE = 0.999
_NEAR_TIE = 0.02
"""Of two neighbours either may be the nearest that differ by no more than this part of how far the nearest stands out:
some models put all texts close together, and what tells them apart is small."""
_KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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


def export(folder: Path, where: Path, revision: str | None) -> Export:
    """Write graph and tokenizer of the model in `folder` to `where`. Raises `NotPossibleError`."""
    model = pipeline(folder, "cpu", torch.float32).eval()
    tokenizer = _tokenizer(model)
    features = model.preprocess(["one text", "and another, which is longer"])
    inputs = tuple(name for name in _KNOWN_INPUTS if name in features)
    if unknown := [name for name, value in features.items() if torch.is_tensor(value) and name not in inputs]:
        raise NotPossibleError(f"it wants {', '.join(unknown)} beside the tokens")
    texts = probes.texts(model.max_seq_length)
    expected = _normalized(np.asarray(model.encode(texts, batch_size=8, show_progress_bar=False), dtype=np.float64))
    graph = converted(_Pipeline(model, inputs), tuple(features[name] for name in inputs))
    ov.save_model(graph, where / GRAPH, compress_to_fp16=False)
    tokenizer.backend_tokenizer.save(str(where / TOKENIZER))
    facts = Facts(
        inputs=inputs,
        dimensions=expected.shape[1],
        window=int(model.max_seq_length),
        prompt=model.prompts.get(model.default_prompt_name or "", ""),
        pad_id=int(tokenizer.pad_token_id or 0),
        pad_left=tokenizer.padding_side == "left",
    )
    del graph, model, tokenizer, features
    gc.collect()  # what follows needs the room

    def judge(precision: str) -> tuple[float, bool]:
        found = _normalized(OpenVinoEmbeddings(where, facts, precision).embed(texts)[0].astype(np.float64))
        least = float((found * expected).sum(axis=1).min())
        say(f"{precision}: least cosine {least:.6f}")
        return least, least >= LEAST_COSINE and _same_neighbours(found, expected)

    return Export(revision, None, judged(where, judge), vars(facts))


def _tokenizer(model: SentenceTransformer) -> Any:
    """Return its tokenizer. Raises `NotPossibleError` for a model that is more than a transformer of texts."""
    first = model[0]
    if not isinstance(first, Transformer) or set(model.modalities) != {"text"}:
        raise NotPossibleError("it is no plain transformer of texts")
    if not isinstance(model.max_seq_length, int):
        raise NotPossibleError("it has no window")
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise NotPossibleError("its tokenizer is not one of the fast ones")
    prompt = model.prompts.get(model.default_prompt_name or "", "")
    if prompt and not all(getattr(module, "include_prompt", True) for module in model):
        raise NotPossibleError("it leaves its prompt out of the pooling")
    return tokenizer


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
