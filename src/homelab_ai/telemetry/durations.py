"""How long the last requests of each model took."""

import collections
import math

_KEPT = 100
"""Requests of each model."""


class Durations:
    """The last ones of each model. Every method belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._last: dict[str, collections.deque[float]] = {}
        self._p95: dict[str, float] = {}
        """Of those models of which it was asked for since their last request."""

    def add(self, model_id: str, seconds: float) -> None:
        """A request has been answered."""
        self._last.setdefault(model_id, collections.deque(maxlen=_KEPT)).append(seconds)
        self._p95.pop(model_id, None)

    def forget(self, model_id: str) -> None:
        """The model is no longer on offer."""
        self._last.pop(model_id, None)
        self._p95.pop(model_id, None)

    def p95(self, model_id: str) -> float | None:
        """What 95 in 100 of them took at most (by the nearest rank); `None` where there was none."""
        if model_id not in self._last:
            return None
        if model_id not in self._p95:
            ordered = sorted(self._last[model_id])
            self._p95[model_id] = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return self._p95[model_id]
