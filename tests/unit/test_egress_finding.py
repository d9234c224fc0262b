"""From names to addresses in threads of their own, and from addresses to the first connection."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.finding import Stream, SystemResolver, connect, dial

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::3"))


def answers(*addresses: str) -> list[tuple[object, ...]]:
    """What `socket.getaddrinfo` returns."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


async def test_all_answers_are_told_in_their_order_and_once() -> None:
    def ask(*asked: Any, **options: Any) -> list[tuple[object, ...]]:
        assert asked == (b"site.example", None)
        return answers("192.0.2.2", "192.0.2.1", "192.0.2.2", "fe80::1%eth0")

    found = await SystemResolver(ask)("site.example")
    assert [str(address) for address in found] == ["192.0.2.2", "192.0.2.1", "fe80::1"]


async def test_what_the_system_says_of_a_name_that_is_not_there() -> None:
    def ask(*_: Any, **__: Any) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.raises(OSError, match="no such name"):
        await SystemResolver(ask)("nowhere.example")


async def test_an_address_is_found_without_asking_anybody() -> None:
    assert await SystemResolver()("127.0.0.1") == (ip_address("127.0.0.1"),)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


async def test_names_that_hang_hold_up_no_others(release: threading.Event) -> None:
    def ask(host: bytes, *_: Any, **__: Any) -> list[tuple[object, ...]]:
        if host.startswith(b"hanging"):
            release.wait()
        return answers("192.0.2.1")

    resolver = SystemResolver(ask)
    resolver.most = 3
    hanging = [asyncio.ensure_future(resolver(f"hanging{number}.example")) for number in range(2)]
    await asyncio.sleep(0)
    assert await resolver("site.example") == (ONE,)
    hanging.append(asyncio.ensure_future(resolver("hanging.example")))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many names"):
        await resolver("site.example")
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    with pytest.raises(OSError, match="too many names"):
        await resolver("site.example")  # their threads are still there
    resolver.forgotten_after_seconds = 0
    assert await resolver("site.example") == (ONE,)


class Lines:
    """Addresses that take a connection, refuse it, or do neither."""

    def __init__(self) -> None:
        self.dialled: list[Address] = []
        self.made: list[Any] = []
        self.outcomes: dict[Address, Exception | asyncio.Event | None] = {}

    async def dial(self, address: Address, port: int) -> Stream:
        self.dialled.append(address)
        outcome = self.outcomes[address]
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
        elif outcome:
            raise outcome
        reader, writer = asyncio.StreamReader(), FakeWriter(address)
        self.made.append(writer)
        return reader, writer  # type: ignore[return-value]  # enough of one


class FakeWriter:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.transport = self
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


async def test_the_first_that_takes_a_connection_is_taken() -> None:
    lines = Lines()
    lines.outcomes = {ONE: ConnectionRefusedError(), TWO: None, THREE: None}
    _, writer = await connect([ONE, TWO, THREE], 80, lines.dial)
    assert writer is lines.made[0]
    assert lines.dialled == [ONE, TWO]


async def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.crawling.egress.finding._STAGGER_SECONDS", 0.01)
    lines, late = Lines(), asyncio.Event()
    lines.outcomes = {ONE: late, TWO: None}
    _, writer = await connect([ONE, TWO], 80, lines.dial)
    assert writer is lines.made[0]
    await asyncio.sleep(0)
    late.set()
    await asyncio.sleep(0)
    assert [made.address for made in lines.made] == [TWO], "the other attempt has been given up"


async def test_when_all_have_failed_the_last_says_why() -> None:
    lines = Lines()
    lines.outcomes = {ONE: OSError("no route"), TWO: ConnectionRefusedError("refused")}
    with pytest.raises(ConnectionRefusedError):
        await connect([ONE, TWO], 80, lines.dial)
    with pytest.raises(OSError, match="no address"):
        await connect([], 80, lines.dial)


async def test_not_more_than_a_few_are_tried() -> None:
    many = [ip_address(f"192.0.2.{number}") for number in range(200)]
    lines = Lines()
    lines.outcomes = dict.fromkeys(many, ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        await connect(many, 80, lines.dial)
    assert lines.dialled == many[:8]


async def test_connections_that_come_after_another_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.crawling.egress.finding._STAGGER_SECONDS", 0)
    lines, both = Lines(), asyncio.Event()
    lines.outcomes = {ONE: both, TWO: both}
    attempt = asyncio.ensure_future(connect([ONE, TWO], 80, lines.dial))
    while len(lines.dialled) < 2:
        await asyncio.sleep(0)
    both.set()
    _, writer = await attempt
    await asyncio.sleep(0)
    assert sorted(made.aborted for made in lines.made) == [False, True]
    assert not writer.aborted  # type: ignore[attr-defined]


async def test_dialling_reaches_the_very_address() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await dial(ip_address("127.0.0.1"), server.sockets[0].getsockname()[1])
    assert writer.get_extra_info("peername")[0] == "127.0.0.1"
    writer.close()
    await writer.wait_closed()
    server.close()
