"""The vectors of texts, asked of the service."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from homelab_ai.cli.asking import Asking, Post
from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.embed.texts import Text
from homelab_ai.cli.ending import Stop

_TOO_MUCH = {400, 413, 500, 504}
"""Statuses that a request with fewer texts may not get: a limit is lower, a model slower, or one text to blame."""

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Embedded:
    """Texts with their vectors."""

    texts: list[Text]
    matrix: Matrix
    """One row for each text."""
    truncated: list[bool]
    """For each text, whether the model has read only its beginning."""
    model: str
    fingerprint: str
    """Equal for all vectors that belong together; empty where the model has none."""


class Embedder:
    """Embeds with one model, and never mixes vectors that do not belong together."""

    def __init__(self, asking: Asking, model: str | None) -> None:
        self._asking = asking
        self._model = model
        self._at_once = 1_000_000_000

    def embed(self, batches: Iterable[list[Text]]) -> Iterator[Embedded]:
        """Yield the batches with their vectors, in their order. Raises `Stop` and `ServiceUnavailableError`."""
        first: Embedded | None = None
        for _, embedded in self._asking.each(batches, self._embed):
            first = first or embedded
            if (embedded.model, embedded.fingerprint) != (first.model, first.fingerprint):
                raise Stop(
                    f"{embedded.texts[0].place}: the service has changed its model in between, from {first.model} to "
                    f"{embedded.model}, and the vectors of the two do not belong together; start again"
                )
            yield embedded

    def _embed(self, post: Post, texts: list[Text]) -> Embedded:
        parts: list[Embedded] = []
        start = 0
        while start < len(texts):
            some = texts[start : start + self._at_once]
            try:
                parts.append(self._ask(post, some))
            except ServiceUnavailableError as error:
                if error.status not in _TOO_MUCH:
                    raise
                if len(some) == 1:
                    raise Stop(f"{some[0].place}: {error}") from error
                self._at_once = len(some) // 2  # for the rest of the run, too
            else:
                start += len(some)
        if len({(part.model, part.fingerprint) for part in parts}) > 1:
            raise Stop(f"{texts[0].place}: the service has changed its model in between; start again")
        return Embedded(
            texts,
            np.concatenate([part.matrix for part in parts]),
            [cut for part in parts for cut in part.truncated],
            parts[0].model,
            parts[0].fingerprint,
        )

    def _ask(self, post: Post, texts: list[Text]) -> Embedded:
        body: dict[str, Any] = {"texts": [text.text for text in texts]}
        if self._model:
            body["model"] = self._model
        answer = post("/api/embed", json=body)
        try:
            matrix = np.array(answer.body["embeddings"], dtype=np.float32).reshape(
                len(texts), answer.body["dimensions"]
            )
            cut = set(answer.body.get("truncated", ()))
            truncated = [position in cut for position in range(len(texts))]
            model, fingerprint = answer.body["model_used"], answer.headers.get("X-Embedding-Fingerprint", "")
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceUnavailableError("What answers there is another service: it sends no vectors") from error
        return Embedded(texts, matrix, truncated, model, fingerprint)
