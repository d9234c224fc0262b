"""`EmbeddingService`: what every route, job and command calls to turn texts into vectors.

Plain Python, no HTTP. The texts of many callers share runs of the model (`models.batcher`); what is here says how texts
travel to the engine and vectors back, and what a caller is told when that fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import orjson

from homelab_ai.errors import Conflict, InferenceFailed, InvalidRequest
from homelab_ai.models.batcher import ItemFailed
from homelab_ai.models.catalogue import Model
from homelab_ai.models.deadline import within
from homelab_ai.models.hosts.host import Answer
from homelab_ai.models.job_queue import Lane
from homelab_ai.models.protocols import Models
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings

ENGINE = "homelab_ai.embedding.engines.choice"
"""Dotted path of the engine module, for the model host."""

_TOKENS_AT_MOST = 1024

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Embeddings:
    """Vectors and where they come from."""

    matrix: Matrix
    """One row a text, in the order of the texts, as the model gives them (most models: of length 1)."""
    model_id: str
    truncated: list[int]
    """Positions of the texts that were longer than the model's window and were cut."""
    fingerprint: str | None = None
    """Equal for all vectors that belong into one database."""

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self.matrix.shape[1]


class EmbeddingService:
    """Turns texts into vectors with whatever model is asked for."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self.follow(settings)
        self._timeout_seconds = settings.resources.request_timeout_seconds

    def follow(self, settings: Settings) -> None:
        """Go by these limits from the next request on."""
        self._max_texts = settings.limits.max_texts

    def choose(self, name: str | None) -> Model:
        """Return the embedding model that a request means. Raises as `Catalogue.choose`."""
        return self._models.catalogue.choose(name, "text_embedding")

    async def embed(
        self,
        texts: Sequence[str],
        model: Model,
        lane: Lane = "interactive",
        *,
        expected: str | None = None,
        timing: Timing | None = None,
    ) -> Embeddings:
        """Return one vector for each text.

        Texts longer than the model's window are cut, which the result says. What is in the lane `bulk` lets what is
        `interactive` go first. `timing` is told where the time goes. Raises `InvalidRequest` for no text or too many,
        `Conflict` where the model's vectors have another fingerprint than the `expected` one, `ModelLoadFailed`,
        `InferenceFailed`, `RequestTimeout`, or `ResourceExhausted`.
        """
        if not texts:
            raise InvalidRequest.at("texts", "the list is empty; send at least one text")
        if len(texts) > self._max_texts:
            raise InvalidRequest.at(
                "texts", f"{len(texts)} texts are more than the {self._max_texts} that one request may hold; send fewer"
            )
        async with within(self._timeout_seconds, model, send_fewer="texts"):
            return await self._embed(texts, model, lane, expected, timing)

    async def _embed(
        self, texts: Sequence[str], model: Model, lane: Lane, expected: str | None, timing: Timing | None
    ) -> Embeddings:
        async with self._models.lease(model, timing) as lease:
            fingerprint = (await lease.describe()).get("fingerprint")
            if expected is not None and expected != fingerprint:
                raise Conflict(
                    f"The vectors of model {model.id!r} are no longer those with the fingerprint {expected[:64]!r}; do "
                    "not mix them with older ones: embed everything anew, or go back to the model as it was",
                    details={"model_id": model.id, "expected": expected[:64], "fingerprint": fingerprint},
                )
            vectors = await lease.run(_FORMAT, {}, texts, lane=lane)
        if failed := [position for position, vector in enumerate(vectors) if isinstance(vector, ItemFailed)]:
            raise InferenceFailed(
                f"Model {model.id!r} could not answer for texts[{failed[0]}] ({vectors[failed[0]].failure}); the log "
                "says where",
                details={"model_id": model.id, "texts": failed},
            )
        matrix = np.stack([vector.row for vector in vectors])
        if not np.isfinite(matrix).all():
            # JSON has no NaN, and a database that is given one as 0 or null never finds out why.
            raise InferenceFailed(
                f"Model {model.id!r} gave vectors that are not finite; a precision of float32 may mend it",
                details={"model_id": model.id},
            )
        truncated = [n for n, vector in enumerate(vectors) if vector.truncated]
        return Embeddings(matrix, model.id, truncated, fingerprint)


class _Vector(NamedTuple):
    row: np.ndarray[tuple[int], np.dtype[np.float32]]
    truncated: bool


class _Texts:
    """Texts to the engine as a JSON list, and its matrix back."""

    run_seconds = 0.4

    def pack(self, items: Sequence[str]) -> bytes:
        return orjson.dumps(items)

    def unpack(self, answer: Answer, count: int) -> list[_Vector]:
        matrix = np.frombuffer(answer.body, dtype=np.float32).reshape(answer.header["shape"])
        assert len(matrix) == count
        truncated = set(answer.header["truncated"])
        return [_Vector(row, position in truncated) for position, row in enumerate(matrix)]

    def weight(self, item: str) -> int:
        # About one token for four characters, and the two special ones; most windows are shorter than a long text.
        return 2 + min(len(item) // 4, _TOKENS_AT_MOST)


_FORMAT = _Texts()
