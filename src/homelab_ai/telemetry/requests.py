"""What has become of requests lately: how many, how they ended, and the last errors."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

CLIENT_CLOSED_REQUEST = 499
"""Not a status that anyone receives: what is counted (as nginx does) when nobody was left to answer."""

_ERRORS_KEPT = 10
_MINUTE = 60


@dataclass(frozen=True)
class ErrorSeen:
    """One error that was answered. Nothing of what was asked is kept."""

    time: datetime
    status: int
    code: str
    endpoint: str
    request_id: str


@dataclass(frozen=True)
class Totals:
    """Requests since the start of the service."""

    total: int
    succeeded: int
    """With a status below 400."""
    refused: int
    """4xx: the request was at fault."""
    failed: int
    """5xx: the service was."""
    gone: int
    """Whose client went before the answer."""
    last_minute: int


class Requests:
    """Counts requests. Every method belongs to the event loop's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.active = 0
        """How many are being answered now."""
        self.errors: collections.deque[ErrorSeen] = collections.deque(maxlen=_ERRORS_KEPT)
        """The last ones, the oldest first."""
        self._clock = clock
        self._of_class: collections.Counter[int] = collections.Counter()
        self._seconds: collections.deque[tuple[int, int]] = collections.deque(maxlen=_MINUTE)
        """(a second by the clock, requests that ended in it), for seconds in which any did."""

    def begin(self) -> None:
        """One has come."""
        self.active += 1

    def end(self, status: int, error: ErrorSeen | None) -> None:
        """It has been answered, with this status. `error` is what to show of it, if anything."""
        self.active -= 1
        self._of_class[status if status == CLIENT_CLOSED_REQUEST else status // 100] += 1
        if error:
            self.errors.append(error)
        second = int(self._clock())
        count = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, count + 1))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Do not take the request, as long as this lasts, for one that is being answered: it only looks on."""
        self.active -= 1
        try:
            yield
        finally:
            self.active += 1

    @property
    def totals(self) -> Totals:
        """How many there were, and how they ended."""
        of, since = self._of_class, int(self._clock()) - _MINUTE
        return Totals(
            total=of.total(),
            succeeded=of[1] + of[2] + of[3],
            refused=of[4],
            failed=of[5],
            gone=of[CLIENT_CLOSED_REQUEST],
            last_minute=sum(count for second, count in self._seconds if second > since),
        )
