"""A made-up internet for the guard: names, and servers on loopback that stand behind public addresses.

Nothing is sent to any other place, also where the guard is wrong: whom it dials is written down, and an address that
no server here stands behind refuses the connection.
"""

import asyncio
import contextlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address

import httpx

from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.finding import Stream
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PUBLIC = "93.184.216.34"
SITE = "site.example"


class Internet:
    """What the guard is given for the resolver and the dialler."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {SITE: [[PUBLIC]]}
        """The answers to each question for a name, in turn; the last one stays."""
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.hanging: set[str] = set()
        """Names, and addresses, that never answer."""
        self.arrived = 0
        """Connections that servers have taken."""
        self.elsewhere: int | None = None
        """A port of this machine that stands behind every address that has no server of its own."""
        self._behind: dict[tuple[str, int], int] = {}
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def resolve(self, host: str) -> Sequence[Address]:
        self.asked.append(host)
        if host in self.hanging:
            await asyncio.get_running_loop().create_future()
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answers = self.names[host]
        return tuple(map(ip_address, answers.pop(0) if len(answers) > 1 else answers[0]))

    async def dial(self, address: Address, port: int) -> Stream:
        self.dialled.append((str(address), port))
        if str(address) in self.hanging:
            await asyncio.get_running_loop().create_future()
        local = self._behind.get((str(address), port), self.elsewhere)
        if local is None:
            raise ConnectionRefusedError
        return await asyncio.open_connection("127.0.0.1", local, limit=64 * 1024)

    def put(self, local: int, address: str = PUBLIC, port: int = 80) -> None:
        """Have the server on this port of this machine stand behind an address."""
        self._behind[address, port] = local

    async def serve(self, handler: Handler, address: str = PUBLIC, port: int = 80) -> None:
        """Have a server stand behind an address. Its connections are closed when the handler returns."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await handler(reader, writer)
            finally:
                writer.close()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.arrived += 1
            task = asyncio.get_running_loop().create_task(handle(reader, writer))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512, limit=2**20)
        self._servers.append(server)
        self.put(server.sockets[0].getsockname()[1], address, port)

    @property
    def at_work(self) -> int:
        """How many connections servers have at the moment."""
        return len(self._handlers)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for handler in (open_still := [*self._handlers]):
            handler.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)


def saying(answer: bytes, heard: list[bytes] | None = None, after: asyncio.Event | None = None) -> Handler:
    """A server that reads one head and says this, or says it after that."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        if after:
            await after.wait()
        writer.write(answer)
        await writer.drain()

    return handle


def with_body(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer of a known length."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return f"{head}\r\n\r\n".encode() + body


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says what it hears, until it hears no more."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """A server that hears everything and says nothing."""
    while await reader.read(65536):
        pass


class Caller:
    """A client that says exactly what a test wants said."""

    def __init__(self, stream: Stream) -> None:
        self.reader, self.writer = stream

    def say(self, *lines: str, end: bytes = b"") -> None:
        """Write the lines of a head, and what follows it."""
        self.writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + end)

    async def heard(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer that has a length: its status, headers and body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def rest(self) -> bytes:
        """All that comes until the other side hangs up."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read(-1)
        return b""


@contextlib.asynccontextmanager
async def calling(passage: Passage) -> AsyncIterator[Caller]:
    """A connection to the guard."""
    stream = await asyncio.open_connection("127.0.0.1", int(passage.proxy_url.rpartition(":")[2]))
    try:
        yield Caller(stream)
    finally:
        stream[1].transport.abort()


def shown(passage: Passage) -> str:
    """The header that shows the credentials."""
    return "Proxy-Authorization: Basic " + b64encode(f"{passage.username}:{passage.password}".encode()).decode()


def browsing(passage: Passage) -> httpx.AsyncClient:
    """A real client."""
    proxy = httpx.Proxy(passage.proxy_url, auth=(passage.username, passage.password))
    return httpx.AsyncClient(proxy=proxy, trust_env=False, timeout=20)


@contextlib.asynccontextmanager
async def opened(guard: Guard, policy: Policy | None = None, **limits: float) -> AsyncIterator[Passage]:
    """A passage with limits that no test comes to by chance."""
    async with guard.passage(
        policy or Policy(), max_bytes=int(limits.get("max_bytes", 10**9)), seconds=limits.get("seconds", 600)
    ) as passage:
        yield passage
