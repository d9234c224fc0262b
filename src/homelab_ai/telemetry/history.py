"""The last ten minutes, for whoever opens the page now: looked at every five seconds, whether anybody watches or not.

One look takes microseconds, and what it finds is four numbers: to have them when they are wanted costs next to nothing.
"""

import collections
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

STEP_SECONDS = 5
_STEPS = 120


class Seen(NamedTuple):
    """What one look finds."""

    requests: int
    """That have ended since the service started."""
    errors: int
    """Those of them that were answered with 5xx."""
    queue: int
    """That wait for a model now."""
    memory_bytes: int
    """That models, the browser and what reads pages take now."""


class _Timer(Protocol):
    def cancel(self) -> None: ...


class History:
    """The last steps. Every method belongs to the event loop's thread."""

    def __init__(self, look: Callable[[], Seen], call_later: Callable[[float, Callable[[], object]], _Timer]) -> None:
        """Begin to look. `call_later` is a clock's."""
        self._look = look
        self._call_later = call_later
        self._seen = collections.deque([look()], maxlen=_STEPS + 1)
        """At the end of each step, and before the first."""
        self._end = datetime.now(UTC)
        self._timer = call_later(STEP_SECONDS, self._take)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def told(self) -> dict[str, Any]:
        """Return it for JSON: of each figure a list of the steps, the oldest first, and when the last one ended."""
        steps = [*itertools.pairwise(self._seen)]
        return {
            "step_seconds": STEP_SECONDS,
            "requests": [after.requests - before.requests for before, after in steps],
            "errors": [after.errors - before.errors for before, after in steps],
            "queue": [after.queue for _, after in steps],
            "memory_bytes": [after.memory_bytes for _, after in steps],
            "end": self._end,
        }

    def _take(self) -> None:
        self._timer = self._call_later(STEP_SECONDS, self._take)
        self._seen.append(self._look())
        self._end = datetime.now(UTC)
