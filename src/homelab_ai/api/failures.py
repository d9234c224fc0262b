"""Wrong keys, counted by the address that they come from: who sends too many is made to wait.

An app with the right key must not suffer for another behind the same proxy that has a wrong one. So keys that cannot be
guessed are looked at all the same, for which nothing is lost; short ones, which somebody has thought up, only if they
were right from there before.
"""

import logging
from collections import OrderedDict

from homelab_ai.api.counting import MemoryCounter
from homelab_ai.api.keys import hash_key
from homelab_ai.errors import RateLimitExceeded

log = logging.getLogger(__name__)

_MOST_FAILURES = "20/minute"
_LOG_LINES = "1/minute"
_MOST_REMEMBERED = 1000
_CANNOT_BE_GUESSED = 32
"""Characters. Keys that are made here have 48."""


class Failures:
    """The wrong keys of the last minute, by address, and the right ones that were seen from each."""

    def __init__(self) -> None:
        self._counter = MemoryCounter()
        self._lines = MemoryCounter()
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def check(self, address: str, key: bytes) -> None:
        """Raise `RateLimitExceeded` where too many wrong keys came from, unless this one has been right from there."""
        if len(key) >= _CANNOT_BE_GUESSED or (address, hash_key(key)) in self._right:
            return
        await self._check(address)

    async def _check(self, address: str) -> None:
        quota = await self._counter.look(_MOST_FAILURES, address)
        if quota.remaining:
            return
        raise RateLimitExceeded(
            f"Too many wrong API keys came from {address}: the next is looked at in {quota.reset_seconds} s. Give the "
            "app that sends them the right one",
            details={"retry_after_seconds": quota.reset_seconds},
            retry_after_seconds=quota.reset_seconds,
        )

    async def note_wrong(self, address: str, key: bytes) -> None:
        """Count a key that was wrong, and log it, once a minute. Raises `RateLimitExceeded` after too many."""
        self._right.pop((address, hash_key(key)), None)  # it may have been revoked
        await self._check(address)
        await self._counter.hit(_MOST_FAILURES, address)
        if (await self._lines.hit(_LOG_LINES, address)).allowed:
            log.warning(
                "an API key that is not valid came from %s (further ones of this minute are not logged)", address
            )

    def note_right(self, address: str, key: bytes) -> None:
        """Remember that this key opened the door from this address."""
        known = (address, hash_key(key))
        self._right[known] = None
        self._right.move_to_end(known)
        if len(self._right) > _MOST_REMEMBERED:
            self._right.popitem(last=False)
