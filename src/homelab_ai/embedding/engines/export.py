"""Makes the export of an embedding model.

The whole pipeline of sentence-transformers becomes one OpenVINO graph, which may be used in the precisions that pass
the gate.
"""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from homelab_ai.embedding.engines import gate, plain, probes
from homelab_ai.embedding.engines.openvino import GRAPH, TOKENIZER, OpenVinoEmbeddings
from homelab_ai.embedding.engines.torch import pipeline
from homelab_ai.models.engines import openvino_runtime
from homelab_ai.models.engines.exporting import NotPossibleError, converted, judged, say
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.engines.openvino_runtime import ov
from homelab_ai.models.hosts.engine import LoadError


class _Pipeline(torch.nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """The model as a function of tensors."""

    def __init__(self, model: SentenceTransformer, inputs: Sequence[str]) -> None:
        super().__init__()
        self._model = model
        self._inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = dict(zip(self._inputs, tensors, strict=True))
        return plain.vectors(self._model, features)


def export(folder: Path, where: Path, revision: str | None) -> Export:
    """Write graph and tokenizer of the model in `folder` to `where`. Raises `NotPossibleError`."""
    try:
        model = pipeline(folder, "cpu", torch.float32)
        tokenizer, facts = plain.about(model)
    except (LoadError, plain.NotPlainError) as error:
        raise NotPossibleError(str(error)) from error
    texts = probes.texts(facts.window)
    expected = np.asarray(model.encode(texts, batch_size=8, show_progress_bar=False))
    features = model.preprocess(["one text", "and another, which is longer"])
    graph = converted(_Pipeline(model, facts.inputs), tuple(features[name] for name in facts.inputs))
    ov.save_model(graph, where / GRAPH, compress_to_fp16=False)
    tokenizer.save(str(where / TOKENIZER))
    del graph, model, tokenizer, features
    gc.collect()  # what follows needs the room

    def judge(precision: str) -> tuple[float, bool]:
        least, enough = gate.judge(OpenVinoEmbeddings(where, facts, precision).embed(texts).matrix, expected)
        say(f"{precision}: least cosine {least:.6f}")
        return least, enough

    return Export(revision, None, judged(where, openvino_runtime.precisions(), judge), vars(facts))
