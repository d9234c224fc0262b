"""The proxy itself: who is let in, and that nothing of a passage outlives it."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable

from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.conversation import Conversation, Surroundings
from homelab_ai.crawling.egress.finding import CHUNK, Dial, Resolve, SystemResolver, dial
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Machine, Policy, own_addresses
from homelab_ai.models.clock import Clock

MOST_CONNECTIONS = 512
"""Of all passages, and of those who have shown no credentials yet."""
_KNOWN_SECONDS = 5.0
"""For which the addresses of this machine are taken to be the same: a page makes a hundred requests."""
MOST_CONNECTIONS_OF_A_PASSAGE = 40
"""A browser opens 32 to a proxy, of all its pages."""


class Guard:
    """A forward proxy on loopback that only those may use who have been given a passage.

    What it decides is `policy`'s: a name is resolved once, all its addresses have to be allowed, and the connection
    is made to one of these very addresses.
    """

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        dial: Dial = dial,
        clock: Clock | None = None,
        own_addresses: Callable[[], frozenset[Address]] = own_addresses,
        own_ports: Iterable[int] = (),
    ) -> None:
        """Make one that is not started. `own_ports` are those on which the service listens, which nobody may reach."""
        self._resolve = resolve or SystemResolver()
        self._dial = dial
        self._clock = clock
        self._own_addresses = own_addresses
        self._own_ports = set(own_ports)
        self._addresses: frozenset[Address] = frozenset()
        self._addresses_known_until = -math.inf
        self._server: asyncio.Server | None = None
        self._port = 0
        self._passages: dict[str, Passage] = {}
        self._conversations: dict[asyncio.Task[None], Conversation] = {}

    def keep_from(self, port: int) -> None:
        """Let nobody reach this port of this machine: the service listens there."""
        self._own_ports.add(port)

    async def start(self) -> None:
        """Listen on a port of 127.0.0.1 that the system chooses. Raises `OSError`."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, limit=CHUNK, backlog=MOST_CONNECTIONS
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End everything that is under way."""
        if self._server:
            self._server.close()
        for passage in [*self._passages.values()]:
            await passage.end()
        for task in (open_still := [*self._conversations]):
            task.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)
        if self._server:
            await self._server.wait_closed()

    @contextlib.asynccontextmanager
    async def passage(self, policy: Policy, *, max_bytes: int, seconds: float) -> AsyncIterator[Passage]:
        """Let somebody out, with credentials of their own, as long as this context lasts.

        After so many bytes (of both directions) or seconds all its connections are closed, and no more are taken.
        """
        passage = Passage(f"http://127.0.0.1:{self._port}", policy, max_bytes, self._resolve)
        self._passages[passage.username] = passage
        timer = self._time.call_later(seconds, passage.exhaust)
        try:
            yield passage
        finally:
            timer.cancel()
            del self._passages[passage.username]
            await passage.end()

    @property
    def _time(self) -> Clock:
        return self._clock or asyncio.get_running_loop()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) >= MOST_CONNECTIONS and not self._make_room():
            writer.transport.abort()
            return
        surroundings = Surroundings(
            clock=self._time,
            dial=self._dial,
            machine=self._machine,
            passage_of=self._passage_of,
            most_connections=MOST_CONNECTIONS_OF_A_PASSAGE,
        )
        conversation = Conversation((reader, writer), surroundings)
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._conversations[task] = conversation
        task.add_done_callback(self._conversations.pop)

    def _make_room(self) -> bool:
        """Let go of the connection that has shown no credentials for longest; tell whether there is one."""
        for task, conversation in self._conversations.items():
            if not conversation.passage and not task.cancelling():
                task.cancel()
                return True
        return False

    def _machine(self) -> Machine:
        now = self._time.time()
        if now >= self._addresses_known_until:
            self._addresses, self._addresses_known_until = self._own_addresses(), now + _KNOWN_SECONDS
        return Machine(self._addresses, frozenset(self._own_ports | {self._port}))

    def _passage_of(self, credentials: tuple[str, str] | None) -> Passage | None:
        username, password = credentials or ("", "")
        passage = self._passages.get(username)
        known = passage.password if passage else ""
        return passage if secrets.compare_digest(known, password) else None
