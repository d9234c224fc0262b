"""One user's errand through the guard: its credentials, its policy, its limits, and what came of it."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.finding import Resolve
from homelab_ai.crawling.egress.policy import Policy

_LOOK_UPS = 8
"""Names that one passage may have looked up at the same time."""
_REMEMBERED = 1000
"""Refusals and failures of one passage that are kept, and letters of an address in them."""


class Spent(Exception):
    """The passage has come to one of its limits."""


class Passage:
    """Made by `Guard.passage`, and open as long as that context."""

    def __init__(self, proxy_url: str, policy: Policy, max_bytes: int, resolve: Resolve) -> None:
        self.proxy_url = proxy_url
        """`http://127.0.0.1:PORT`, without the credentials."""
        self.username = secrets.token_urlsafe(16)
        self.password = secrets.token_urlsafe(32)
        self.policy = policy
        self.blocked: list[tuple[str, str]] = []
        """What was refused: the URL, or `host:port` of a tunnel, and why, in words that follow it and a colon."""
        self.failures: list[tuple[str, str]] = []
        """What was allowed but did not come about, written in the same way."""
        self.bytes_received = 0
        """From servers, heads included, as they came over the wire."""
        self.bytes_sent = 0
        """To servers."""
        self.spent = False
        """Whether its bytes or its seconds are used up. It then takes no request any more."""
        self.ended = False
        """Whether nobody waits for anything of it any more."""
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._few = asyncio.Semaphore(_LOOK_UPS)
        self._look_ups: dict[str, asyncio.Future[Sequence[Address]]] = {}
        self.connections: set[asyncio.Task[None]] = set()
        """Those that have shown its credentials."""

    def take(self, count: int) -> int:
        """Count bytes that came from a server; return how many of them are still within the limit.

        Raises:
            Spent: if the limit has been reached before.
        """
        if self.spent:
            raise Spent
        allowed = min(count, self._left)
        self.bytes_received += allowed
        self.spent = allowed < count
        return allowed

    def give(self, count: int) -> None:
        """Count bytes that are to go to a server. Raises `Spent` if they are too many."""
        if self.spent or count > self._left:
            self.spent = True
            raise Spent
        self.bytes_sent += count

    @property
    def _left(self) -> int:
        return self._max_bytes - self.bytes_received - self.bytes_sent

    async def addresses_of(self, host: str) -> Sequence[Address]:
        """Return what the name was resolved to when this passage first asked for it. Raises `OSError`.

        So no name changes its address under one page. A look-up that nobody waits for any more goes on, and holds its
        place among the few that this passage may have: who is not answered is not to start others without end.
        """
        under_way = self._look_ups.get(host)
        if under_way is None or (under_way.done() and under_way.exception()):
            under_way = self._look_ups[host] = asyncio.ensure_future(self._look_up(host))
            under_way.add_done_callback(_forget_failure)
        return await asyncio.shield(under_way)

    async def _look_up(self, host: str) -> Sequence[Address]:
        async with self._few:
            return await self._resolve(host)

    def note_blocked(self, what: str, reason: str) -> None:
        """Remember what was refused."""
        _note(self.blocked, what, reason)

    def note_failure(self, what: str, reason: str) -> None:
        """Remember what did not come about."""
        _note(self.failures, what, reason)

    def exhaust(self) -> None:
        """End all connections but the one that calls this: a limit is reached."""
        self.spent = True
        caller = asyncio.current_task()
        for connection in self.connections:
            if connection is not caller:
                connection.cancel()

    async def end(self) -> None:
        """Close what is open."""
        self.ended = True
        open_still: list[asyncio.Future[Any]] = [*self.connections, *self._look_ups.values()]
        for each in open_still:
            each.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)


def _note(notes: list[tuple[str, str]], what: str, reason: str) -> None:
    if len(notes) < _REMEMBERED:
        notes.append((what[:_REMEMBERED], reason))


def _forget_failure(look_up: asyncio.Future[Sequence[Address]]) -> None:
    """Have asyncio not complain of a failure that nobody waited for."""
    if not look_up.cancelled():
        look_up.exception()
