"""From a name to its addresses, and from addresses to a connection."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from time import monotonic

from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.looks import look

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str], Awaitable[Sequence[Address]]]
"""Returns all addresses of a name, in the order in which they are to be tried. Raises `OSError`."""
Dial = Callable[[Address, int], Awaitable[Stream]]
"""Connects. Raises `OSError`."""

CHUNK = 64 * 1024
"""Bytes that are taken in at once."""

_STAGGER_SECONDS = 0.3
"""After which the next address is tried as well (RFC 8305 recommends 0.25)."""
_MOST_ADDRESSES = 8


class SystemResolver:
    """Asks the system, in threads. One that the system does not answer holds up nobody but who asked."""

    most: int = 64
    """Look-ups at the same time. Passages bring a few each."""
    forgotten_after_seconds: float = 30
    """A thread that has waited for so long is not counted any more: others need its place."""

    def __init__(self, getaddrinfo: Callable[..., Sequence[tuple[object, ...]]] = socket.getaddrinfo) -> None:
        self._getaddrinfo = getaddrinfo
        self._lock = threading.Lock()
        self._under_way: dict[object, float] = {}

    async def __call__(self, host: str) -> Sequence[Address]:
        """Return the addresses of a name. Raises `OSError`."""
        mark, now = object(), monotonic()
        with self._lock:
            counted = sum(now - started < self.forgotten_after_seconds for started in self._under_way.values())
            if counted >= self.most:
                raise OSError("too many names are being looked up")
            self._under_way[mark] = now
        return await look(self._ask, host, mark)

    def _ask(self, host: str, mark: object) -> Sequence[Address]:
        try:
            answers = self._getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
        finally:
            with self._lock:
                del self._under_way[mark]
        texts = [str(answer[4][0]).partition("%")[0] for answer in answers]  # type: ignore[index]  # a socket's address
        return tuple(dict.fromkeys(map(ip_address, texts)))


async def dial(address: Address, port: int) -> Stream:
    """Connect to this very address. Raises `OSError`."""
    return await asyncio.open_connection(str(address), port, limit=CHUNK)


async def connect(addresses: Sequence[Address], port: int, dial: Dial) -> Stream:
    """Return a connection to the first of the addresses that takes one.

    Raises:
        OSError: of the last that failed, when all have.
    """
    waiting = list(addresses[:_MOST_ADDRESSES])
    attempts: set[asyncio.Future[Stream]] = set()
    failure: BaseException | None = None
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.ensure_future(dial(waiting.pop(0), port)))
            await asyncio.wait(
                attempts, timeout=_STAGGER_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in [attempt for attempt in attempts if attempt.done()]:
                attempts.remove(attempt)
                failure = attempt.exception()
                if failure is None:
                    return attempt.result()
                if not isinstance(failure, OSError):
                    raise failure
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_hang_up)
    raise failure or OSError("no address")


def _hang_up(attempt: asyncio.Future[Stream]) -> None:
    """Let go of a connection that came after another one was taken."""
    with contextlib.suppress(asyncio.CancelledError, OSError):
        attempt.result()[1].transport.abort()
