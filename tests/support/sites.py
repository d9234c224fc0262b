"""A web site and a forward proxy on loopback, for tests of fetching: every name below .test leads to the site."""

import asyncio
import base64
import contextlib
import inspect
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest

from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from support.egress import Internet

END = b"\r\n\r\n"


@dataclass
class Served:
    """What the site answers to one path."""

    body: bytes | str = b""
    content_type: str | None = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    then: str = "close"
    """After the body: `close`, `cut` (though more was announced), `hang`, or `drip` (now and then a byte)."""


@dataclass(frozen=True)
class Asked:
    """A request that the site has got."""

    host: str
    path: str
    headers: dict[str, str]


def self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate for this host, and its key. Skips the test where there is nothing to make them."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={host}"]
    command += ["-addext", f"subjectAltName=DNS:{host}", "-out", str(certificate), "-keyout", str(key)]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(command, capture_output=True, check=True)
    return certificate, key


class _Listener:
    """A server on loopback in the loop of the test."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.arrived = 0
        """Connections, whatever is said over them."""
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived += 1

        async def quietly() -> None:
            try:
                with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                    await self.talk(reader, writer)
            finally:
                writer.close()

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


async def _head(reader: asyncio.StreamReader, begun: bytes = b"") -> tuple[str, str, dict[str, str]]:
    """Method, target and headers of the next request."""
    first, *lines = (begun + await reader.readuntil(END)).decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return method, target, {name.lower(): value.strip() for name, _, value in pairs}


Pages = dict[str, Served | Callable[[Asked], Served | Awaitable[Served]]]


class Site(_Listener):
    """Serves what `pages` says, by path, and `otherwise` for all others; a function is asked anew each time."""

    def __init__(self, pages: Pages, tls: ssl.SSLContext | None = None, otherwise: Served | None = None) -> None:
        super().__init__(tls)
        self.pages = pages
        self.asked: list[Asked] = []
        self._otherwise = otherwise or Served("not here", status=404)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (first := await reader.readexactly(1)).isalpha():
            return  # this is not HTTP
        _, target, headers = await _head(reader, first)
        asked = Asked(headers.get("host", ""), target, headers)
        self.asked.append(asked)
        found = self.pages.get(urlsplit(target).path, self._otherwise)
        served = found(asked) if callable(found) else found
        if inspect.isawaitable(served):
            served = await served
        body = served.body.encode() if isinstance(served.body, str) else served.body
        lines = [f"HTTP/1.1 {served.status} Said", "Connection: close"]
        if served.content_type:
            lines.append(f"Content-Type: {served.content_type}")
        if served.then in {"close", "cut"}:
            lines.append(f"Content-Length: {len(body) + 100 * (served.then == 'cut')}")
        lines += [f"{name}: {value}" for name, value in served.headers.items()]
        writer.write("\r\n".join(lines).encode("latin-1") + END + body)
        await writer.drain()
        while served.then in {"hang", "drip"}:
            if served.then == "drip":
                writer.write(b" ")
                await writer.drain()
            await asyncio.sleep(0.05)


class Proxy(_Listener):
    """A forward proxy that wants the credentials of a passage, and notes what goes through it."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.seen: list[tuple[str, str]] = []
        """Who asked for what: the user, and the address, or the host and port of a CONNECT."""
        self.passages: dict[str, TestPassage] = {}

    def passage(self, name: str = "one", refused: tuple[str, ...] = ()) -> "TestPassage":
        self.passages[name] = passage = TestPassage(f"http://127.0.0.1:{self.port}", name, f"secret-{name}", refused)
        return passage

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, headers = await _head(reader)
        passage = self._who(headers.get("proxy-authorization", ""))
        if not passage:
            await _say(writer, "407 Who are you", 'Proxy-Authenticate: Basic realm="guard"')
            return
        self.seen.append((passage.username, target))
        await self.hold(target)
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = url.hostname or ""
        if host in passage.refused:
            passage.blocked.append((target, f"{host} is not a public address"))
            await _say(writer, "403 No", f"X-Homelab-Blocked: {host} is not a public address")
            return
        port = url.port or 80
        if host.endswith(".test"):
            port = self.site.port
        elif host not in {"127.0.0.1", "localhost"}:
            passage.failures.append((target, "its server was not found"))
            await _say(writer, "502 Not found", "X-Homelab-Failed: its server was not found")
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            passage.failures.append((target, "its server refuses connections"))
            await _say(writer, "502 Refused", "X-Homelab-Failed: its server refuses connections")
            return
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected" + END)
            else:
                path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
                lines = [f"{method} {path} HTTP/1.1"]
                own = {"proxy-authorization", "proxy-connection"}
                lines += [f"{name}: {value}" for name, value in headers.items() if name not in own]
                far_writer.write("\r\n".join(lines).encode("latin-1") + END)
            await asyncio.wait(
                [asyncio.ensure_future(_pipe(reader, far_writer)), asyncio.ensure_future(_pipe(far_reader, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            far_writer.close()

    async def hold(self, target: str) -> None:
        """Where a test has something happen before the target is connected to."""

    def _who(self, authorization: str) -> "TestPassage | None":
        for passage in self.passages.values():
            expected = base64.b64encode(f"{passage.username}:{passage.password}".encode()).decode()
            if authorization == f"Basic {expected}":
                return passage
        return None


class TestPassage(Passage):
    """One that leads through a `Proxy`, or nowhere, and not through the guard."""

    __test__ = False

    def __init__(self, proxy_url: str, username: str, password: str, refused: tuple[str, ...] = ()) -> None:
        super().__init__(proxy_url, Policy(), 0, Internet().resolve)
        self.username, self.password = username, password
        self.refused = refused


async def _say(writer: asyncio.StreamWriter, status: str, header: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 0\r\nConnection: close".encode() + END)
    await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
