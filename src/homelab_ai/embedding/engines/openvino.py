"""The embedding engine on OpenVINO: exported models on the CPU, without torch.

Imported only inside a model host. An export holds the whole pipeline of sentence-transformers (pooling, dense layers,
normalization), so what is left to do here is to tokenize, to pack, and to keep every core busy: a run is cut into
passes of texts of like length, and as many passes are calculated at a time as there are streams.
"""

import bisect
import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Encoding, Tokenizer

from homelab_ai.embedding.engines.embedded import Embedded, Matrix
from homelab_ai.embedding.engines.tokens import Facts, Tokens
from homelab_ai.models import cores
from homelab_ai.models.engines import openvino_runtime
from homelab_ai.models.engines.streams import Streams
from homelab_ai.models.hosts.engine import LoadError

GRAPH, TOKENIZER = "model.xml", "tokenizer.json"

_TOKENS_PER_PASS = 1024
"""Padded ones. Larger passes lose more to padding and to the cache than they win."""
_SHORT = 64
"""Tokens. Most texts are short: their lengths are rounded less."""
_RUNS_AT_ONCE = 3
"""One is calculated, one is tokenized meanwhile, and there is a place for a short one."""
_PASS_COSTS = 28
"""What a pass costs beside its tokens, in tokens: half of it for a shape other than that of the last."""
_COUNTS = [1 << octave for octave in range(20)]
"""How many rows a pass may have."""


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
        self._count = cores.usable()
        compiled = openvino_runtime.compiled(openvino_runtime.read(folder / GRAPH), precision, streams=self._count)
        self._streams = Streams([compiled.create_infer_request() for _ in range(self._count)])
        self._warm_up()
        openvino_runtime.forget(folder / GRAPH.replace(".xml", ".bin"))

    def _warm_up(self) -> None:
        """Have every stream pack the weights for itself."""
        encodings, _ = self._tokens.of(["a few words"])
        all_at_once = threading.Barrier(self._count)

        def calculate(request: Any) -> None:
            all_at_once.wait()
            self._calculate(np.empty((1, self._facts.dimensions), dtype=np.float32), [0], encodings, request)

        self._streams.carry_out([calculate] * self._count)

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
            "runs_at_once": _RUNS_AT_ONCE,
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], memoryview]:  # noqa: ARG002 - has none
        """Embed the texts in `body`, a JSON list.

        Answers the positions of the texts that were longer than the model's window, and a C-contiguous float32
        matrix, one row a text, in the order of the texts.
        """
        return self.embed(orjson.loads(body)).answer()

    def embed(self, texts: list[str]) -> Embedded:
        """Return the vectors of these texts."""
        with self._streams.sharing() as streams:
            return self._embed(texts, streams)

    def _embed(self, texts: list[str], streams: int) -> Embedded:
        started = time.perf_counter()
        encodings, truncated = self._tokens.of(texts)
        tokenized = time.perf_counter()
        matrix = np.empty((len(texts), self._facts.dimensions), dtype=np.float32)
        groups = packed(list(map(len, encodings)), streams)
        self._streams.carry_out(partial(self._calculate, matrix, rows, encodings) for rows in groups)
        calculated = time.perf_counter()
        tokens = sum(map(len, encodings))
        return Embedded(matrix, truncated, tokenized - started, calculated - tokenized, tokens)

    def _calculate(self, matrix: Matrix, rows: list[int], encodings: list[Encoding], request: Any) -> None:
        """Fill these rows of the matrix, the longest text first, with the vectors of their texts."""
        width = min(_rounded(len(encodings[rows[0]])), self._window)
        count = _COUNTS[bisect.bisect_left(_COUNTS, len(rows))]
        padded = [encodings[row] for row in rows] + [encodings[rows[-1]]] * (count - len(rows))
        request.infer(self._tokens.padded(padded, width), share_inputs=True)
        matrix[rows] = request.get_output_tensor(0).data[: len(rows)]


def packed(lengths: Sequence[int], streams: int) -> list[list[int]]:
    """Group rows of like length, longest first, so that the whole costs least: padding, and what each pass costs.

    No pass is over the budget of tokens, which leaves work for every stream. For every shape that it has not seen,
    OpenVINO prepares something, and keeps it (350 kB). So there are only so many: lengths are rounded, and a pass has
    1, 2, 4, 8, ... rows, of which the last may say nothing. (Dynamic programming over the rows, by length.)
    """
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = [_rounded(lengths[row]) for row in rows]
    budget = _TOKENS_PER_PASS if streams == 1 else min(_TOKENS_PER_PASS, -(-sum(widths) // streams))
    costs, counts = [0.0], [0]  # of the last rows, by how many they are: in all, and how many to take first
    for left in range(1, len(rows) + 1):
        width, least, best = widths[-left], math.inf, 1
        for count in _COUNTS:
            if count > 1 and min(count, left) * width > budget:
                break
            cost = count * width + _PASS_COSTS + costs[max(0, left - count)]
            if cost < least:
                least, best = cost, count
            if count >= left:
                break
        costs.append(least)
        counts.append(best)
    groups, start = [], 0
    while start < len(rows):
        count = counts[len(rows) - start]
        groups.append(rows[start : start + count])
        start += count
    return groups


def _rounded(length: int) -> int:
    """The length to which a text is padded: up to 16 its own, then one of 8, beyond 64 of 4, from one power of 2 on."""
    length = max(1, length)
    step = 1 << max(0, (length - 1).bit_length() - (4 if length <= _SHORT else 3))
    return -(-length // step) * step
