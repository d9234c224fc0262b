"""The embedding engine on OpenVINO: exported models on the CPU, without torch.

Imported only inside a model host. An export holds the whole pipeline of sentence-transformers (pooling, dense layers,
normalization), so what is left to do here is to tokenize, to pack, and to keep every core busy: a run is cut into
passes of texts of like length, and as many passes are calculated at a time as there are streams.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from homelab_ai.embedding.engines.embedded import Embedded
from homelab_ai.embedding.engines.tokens import Facts, Tokens
from homelab_ai.models import cores
from homelab_ai.models.engines import openvino_runtime
from homelab_ai.models.engines.openvino_runtime import ov
from homelab_ai.models.hosts.engine import LoadError

GRAPH, TOKENIZER = "model.xml", "tokenizer.json"

_TOKENS_PER_PASS = 1024
"""Padded ones. Larger passes lose more to padding and to the cache than they win."""
_SHORT = 64
"""Tokens. Most texts are short: their lengths are rounded less."""
_PASS_COSTS = 12
"""What a pass costs beside its tokens, in tokens."""


class OpenVinoEmbeddings:
    """One exported model."""

    def __init__(
        self,
        folder: Path,
        facts: Facts,
        precision: str,
        *,
        fingerprint: str | None = None,
        max_length: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        if max_length and max_length > facts.window:
            raise LoadError(f"max_length is {max_length}, but the model's window is {facts.window}")
        if dimensions not in (None, facts.dimensions):
            raise LoadError(f"the configuration says {dimensions} dimensions, but the model has {facts.dimensions}")
        self._facts = facts
        self._fingerprint = fingerprint
        self._precision = precision
        self._window = max_length or facts.window
        self._tokens = Tokens(Tokenizer.from_file(str(folder / TOKENIZER)), facts, self._window)
        self._streams = cores.usable()
        compiled = openvino_runtime.compiled(openvino_runtime.read(folder / GRAPH), precision, streams=self._streams)
        self._queue = ov.AsyncInferQueue(compiled, self._streams)
        self._queue.set_callback(_keep)
        self.embed(["every stream packs the weights for itself"] * self._streams)
        openvino_runtime.forget(folder / GRAPH.replace(".xml", ".bin"))

    def describe(self) -> dict[str, Any]:
        """Dimensions, window in tokens, and what it runs on."""
        return {
            "backend": "openvino",
            "device": "cpu",
            "precision": self._precision,
            "dimensions": self._facts.dimensions,
            "max_length": self._window,
            "fingerprint": self._fingerprint,
            "gpu_memory_bytes": 0,
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], memoryview]:  # noqa: ARG002 - has none
        """Embed the texts in `body`, a JSON list.

        Answers the positions of the texts that were longer than the model's window, and a C-contiguous float32
        matrix, one row a text, in the order of the texts.
        """
        return self.embed(orjson.loads(body)).answer()

    def embed(self, texts: list[str]) -> Embedded:
        """Return the vectors of these texts."""
        started = time.perf_counter()
        encodings, truncated = self._tokens.of(texts)
        tokenized = time.perf_counter()
        matrix = np.empty((len(texts), self._facts.dimensions), dtype=np.float32)
        passes = []
        for rows in packed(list(map(len, encodings)), self._streams):
            width = min(_rounded(len(encodings[rows[0]])), self._window)
            inputs = self._tokens.padded([encodings[row] for row in rows], width)
            passes.append(inputs)  # they are shared, not copied: they have to stay until all is done
            self._queue.start_async(inputs, (matrix, rows), share_inputs=True)
        self._queue.wait_all()
        calculated = time.perf_counter()
        tokens = sum(map(len, encodings))
        return Embedded(matrix, truncated, tokenized - started, calculated - tokenized, tokens)


def _keep(request: Any, where: tuple[np.ndarray[Any, Any], list[int]]) -> None:
    matrix, rows = where
    matrix[rows] = request.get_output_tensor(0).data


def packed(lengths: Sequence[int], streams: int) -> list[list[int]]:
    """Group rows of like length, longest first: within the budget of tokens, and so that all streams have work.

    For every shape that it has not seen, OpenVINO prepares something, and keeps it. So there are only so many: lengths
    are rounded, and a group has 1, 2, 4, 8, ... rows.
    """
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = [_rounded(lengths[row]) for row in rows]
    budget = min(_TOKENS_PER_PASS, -(-sum(widths) // streams))
    groups, start = [], 0
    while start < len(rows):
        count = 1
        while start + 2 * count <= len(rows) and 2 * count * widths[start] <= budget:
            if (widths[start] - widths[start + count]) * count > _PASS_COSTS:
                break  # what padding would cost is more than another pass
            count *= 2
        groups.append(rows[start : start + count])
        start += count
    return groups


def _rounded(length: int) -> int:
    """The length to which a text is padded: up to 16 its own, then one of 8, beyond 64 of 4, from one power of 2 on."""
    length = max(1, length)
    step = 1 << max(0, (length - 1).bit_length() - (4 if length <= _SHORT else 3))
    return -(-length // step) * step
