"""The last lines of both logs, kept for those who may read them (`GET /api/stream`).

What is kept is what the logs were given, by the same loggers, levels and filters, and no more of it than they tell. It
is less by the files of the page, whose lines would push out all others whenever somebody opens it.
Each log has a part of its own, so that a busy app does not push out the one warning that matters.
"""

import collections
import heapq
import logging
import threading
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

_KEPT_OF_EACH = 100

Entry = dict[str, Any]


class New(NamedTuple):
    """What has come since somebody last looked."""

    entries: list[Entry]
    """The oldest first."""
    lost: int
    """How many came and went meanwhile."""
    last: int
    """The number of the last one, by which to ask again."""


class Tail:
    """The last entries. Belongs to no thread: whoever has something to say logs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._logs: list[collections.deque[tuple[int, Entry]]] = []

    def handler(self, entry_of: Callable[[logging.LogRecord], Entry]) -> logging.Handler:
        """Return the handler of one more log, whose records become such entries."""
        kept: collections.deque[tuple[int, Entry]] = collections.deque(maxlen=_KEPT_OF_EACH)
        self._logs.append(kept)

        def keep(record: logging.LogRecord) -> None:
            entry = entry_of(record)
            with self._lock:
                self._last += 1
                kept.append((self._last, entry))

        return _Keeping(keep)

    def since(self, last: int | None = None) -> New:
        """Return what came after the entry of this number; for `None`, at a first look, all that is kept."""
        after = last or 0
        with self._lock:
            parts = [[(number, entry) for number, entry in kept if number > after] for kept in self._logs]
            now = self._last
        entries = [entry for _, entry in heapq.merge(*parts, key=itemgetter(0))]
        return New(entries, 0 if last is None else now - last - len(entries), now)


class _Keeping(logging.Handler):
    def __init__(self, keep: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        self._keep(record)
