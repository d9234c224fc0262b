"""`EmbeddingService`: what every route, job and command calls to turn texts into vectors.

Plain Python, no HTTP. It cuts a long list into runs that are short enough to let others in between, has the model
answer them, and puts the rows together again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from homelab_ai.errors import InferenceFailed, InvalidRequest, RequestTimeout
from homelab_ai.models.catalogue import Model
from homelab_ai.models.protocols import Models
from homelab_ai.settings import Settings

ENGINE = "homelab_ai.embedding.engines.torch"
"""Dotted path of the engine module, for the model host."""

# One run, while which nobody else is served: about a second of work for a small model on a small CPU. (How much one
# long text may cost is the engine's to bound.)
_TEXTS_PER_RUN = 32
_CHARACTERS_PER_RUN = 100_000

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Embeddings:
    """Vectors and where they come from."""

    matrix: Matrix
    """One row a text, in the order of the texts, as the model gives them (most models: of length 1)."""
    model_id: str
    truncated: list[int]
    """Positions of the texts that were longer than the model's window and were cut."""

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self.matrix.shape[1]


class EmbeddingService:
    """Turns texts into vectors with whatever model is asked for."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._max_texts = settings.limits.max_texts
        self._timeout_seconds = settings.resources.request_timeout_seconds

    def choose(self, name: str | None) -> Model:
        """Return the embedding model that a request means. Raises as `Catalogue.choose`."""
        return self._models.catalogue.choose(name, "text_embedding")

    async def embed(self, texts: Sequence[str], model: Model) -> Embeddings:
        """Return one vector for each text.

        Texts longer than the model's window are cut, which the result says. Raises `InvalidRequest` for no text or
        too many, `ModelLoadFailed`, `InferenceFailed`, `RequestTimeout`, or `ResourceExhausted`.
        """
        if not texts:
            raise InvalidRequest.at("texts", "the list is empty; send at least one text")
        if len(texts) > self._max_texts:
            raise InvalidRequest.at(
                "texts", f"{len(texts)} texts are more than the {self._max_texts} that one request may hold; send fewer"
            )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._embed(texts, model)
        except TimeoutError:
            raise RequestTimeout(
                f"Model {model.id!r} did not answer within {self._timeout_seconds:g} s; send fewer texts, or try again "
                "later if the model is still being downloaded",
                details={"model_id": model.id, "timeout_seconds": self._timeout_seconds},
            ) from None

    async def _embed(self, texts: Sequence[str], model: Model) -> Embeddings:
        parts: list[Matrix] = []
        truncated: list[int] = []
        first = 0
        async with self._models.lease(model) as lease:
            for run in _runs(texts):
                answer = await lease.run({}, orjson.dumps(run))
                parts.append(np.frombuffer(answer.body, dtype=np.float32).reshape(answer.header["shape"]))
                truncated += [first + position for position in answer.header["truncated"]]
                first += len(run)
        matrix = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(matrix).all():
            # JSON has no NaN, and a database that is given one as 0 or null never finds out why.
            raise InferenceFailed(
                f"Model {model.id!r} gave vectors that are not finite; a precision of float32 may mend it",
                details={"model_id": model.id},
            )
        return Embeddings(matrix, model.id, truncated)


def _runs(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut a list into runs, each at least one text long."""
    run: list[str] = []
    room = _CHARACTERS_PER_RUN
    for text in texts:
        if run and (len(run) == _TEXTS_PER_RUN or len(text) > room):
            yield run
            run, room = [], _CHARACTERS_PER_RUN
        run.append(text)
        room -= len(text)
    yield run
