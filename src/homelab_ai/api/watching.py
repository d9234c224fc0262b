"""The pages that are open, and what all of them are shown: made once a second, and not at all while there is none."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from pydantic import BaseModel

from homelab_ai.errors import ResourceExhausted

MOST_STREAMS = 32
"""A home has a few pages open at a time; a program that opens one after the other must not fill the memory."""

_GOOD_FOR_SECONDS = 0.9
_FIGURES_EVERY_SECONDS = 5
_COUNTDOWNS: dict[str, Any] = {
    "idle_seconds": True,
    "unloads_in_seconds": True,
    "retry_in_seconds": True,
    "download": {"seconds_left"},
}
_FIGURES: dict[str, Any] = {"requests": True, "active_requests": True, "memory_bytes": True, "gpu_memory_bytes": True}

Look = Callable[[], Awaitable[tuple[BaseModel, BaseModel]]]
"""Finds out what `GET /api/status` and `GET /api/models` would answer."""


@dataclass(frozen=True)
class Frame:
    """What there is to be seen at one moment, as JSON."""

    status: str
    models: str
    version: int
    """Of the models: another one when something has changed that is worth being sent again."""


class Watching:
    """Belongs to the event loop's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams = 0
        self._frame = Frame("", "", 0)
        self._made_at = self._models_at = -inf
        self._known = ("", "")
        """What the models were when they were last sent: without what runs by itself, and without all figures."""

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Have a place for one stream. Raises `ResourceExhausted`."""
        if self._streams >= MOST_STREAMS:
            raise ResourceExhausted(
                f"{MOST_STREAMS} streams are open already; close a page that shows one, or ask GET /api/status",
                details={"max_streams": MOST_STREAMS},
                retry_after_seconds=5,
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def frame(self, look: Look) -> Frame:
        """Return what there is to be seen now, or was less than a second ago, when it was made for another stream."""
        if self._clock() - self._made_at < _GOOD_FOR_SECONDS:
            return self._frame
        status, models = await look()
        self._made_at = self._clock()
        state = models.model_dump_json(exclude={"models": {"__all__": {**_COUNTDOWNS, **_FIGURES}}})
        figures = models.model_dump_json(exclude={"models": {"__all__": _COUNTDOWNS}})
        text, version = self._frame.models, self._frame.version
        if state != self._known[0] or (
            # They change with every request, and of hundreds of models the event is large.
            figures != self._known[1] and self._made_at - self._models_at >= _FIGURES_EVERY_SECONDS
        ):
            text, version = models.model_dump_json(), version + 1
            self._known, self._models_at = (state, figures), self._made_at
        self._frame = Frame(status.model_dump_json(), text, version)
        return self._frame
