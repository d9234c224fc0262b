"""The guard among those who send too much, too slowly or nothing, or go away: nothing is left behind."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from ipaddress import ip_network

import httpx
import pytest

from homelab_ai.crawling.egress import conversation, exchange
from homelab_ai.crawling.egress import guard as guards
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from support.clock import Clock
from support.egress import SITE, Caller, Internet, browsing, calling, echo, opened, saying, shown, silent, with_body
from support.house import until

pytestmark = pytest.mark.anyio

MB = 1024 * 1024


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # it was the folder itself
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return found


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    internet = Internet()
    yield internet
    await internet.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guard(internet: Internet, clock: Clock) -> AsyncIterator[Guard]:
    """A guard that has to leave no task, socket or timer behind."""
    before = sockets()
    guard = Guard(resolve=internet.resolve, dial=internet.dial, clock=clock, own_addresses=frozenset)
    await guard.start()
    yield guard
    await guard.close()
    await internet.close()
    await until(lambda: not any("homelab_ai/crawling" in repr(task) for task in asyncio.all_tasks()))
    await until(lambda: sockets() == before)
    assert [timer for timer in clock._timers if not timer.cancelled] == []


def waited_for(clock: Clock, seconds: float) -> bool:
    """Whether something is waited for that long at the moment."""
    return any(timer.due - clock.now == seconds and not timer.cancelled for timer in clock._timers)


def ask(caller: Caller, passage: Passage, url: str = f"http://{SITE}/") -> None:
    caller.say(f"GET {url} HTTP/1.1", "Host: a", shown(passage))


async def tunnel(caller: Caller, passage: Passage) -> None:
    caller.say(f"CONNECT {SITE}:443 HTTP/1.1", "Host: a", shown(passage))
    assert (await caller.heard())[0] == 200


async def streamed(client: httpx.AsyncClient) -> tuple[bytes, bool]:
    """What comes of the site's page, and whether it was all of it."""
    body = b""
    try:
        async with client.stream("GET", f"http://{SITE}/") as answer:
            async for part in answer.aiter_raw():
                body += part
    except httpx.RemoteProtocolError:
        return body, False
    return body, True


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server whose answer does not end."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


# --- limits


async def test_an_endless_answer_ends_with_the_bytes_of_its_passage(guard: Guard, internet: Internet) -> None:
    await internet.serve(endless)
    async with opened(guard, max_bytes=MB) as passage, browsing(passage) as client:
        body, whole = await streamed(client)
        assert not whole
        assert passage.spent
        assert passage.bytes_received + passage.bytes_sent == MB
        assert MB - 1000 < len(body) < MB, "all that has come is passed on"
        answer = await client.get(f"http://{SITE}/")
        reason = "the limit of bytes or of time is reached"
        assert (answer.status_code, answer.headers["x-homelab-failed"]) == (503, reason)
    assert internet.arrived == 1


async def test_all_connections_of_a_passage_end_with_its_bytes(guard: Guard, internet: Internet) -> None:
    await internet.serve(endless)
    await internet.serve(echo, port=443)
    async with (
        opened(guard, max_bytes=MB) as passage,
        opened(guard) as other,
        calling(passage) as idle,
        calling(other) as untouched,
        browsing(passage) as client,
    ):
        await tunnel(idle, passage)
        await tunnel(untouched, other)
        assert not (await streamed(client))[1]
        assert await idle.rest() == b""
        untouched.writer.write(b"still here")
        assert await untouched.reader.readexactly(10) == b"still here"


async def test_bytes_of_tunnels_count_in_both_directions(guard: Guard, internet: Internet) -> None:
    await internet.serve(echo, port=443)
    async with opened(guard, max_bytes=1000) as passage, calling(passage) as caller:
        await tunnel(caller, passage)
        caller.writer.write(b"a" * 400)
        assert await caller.reader.readexactly(400) == b"a" * 400
        assert not passage.spent
        caller.writer.write(b"a" * 150)
        assert len(await caller.rest()) == 50
        assert (passage.bytes_sent, passage.bytes_received, passage.spent) == (550, 450, True)


async def test_a_body_that_is_sent_counts_too(guard: Guard, internet: Internet) -> None:
    await internet.serve(silent)
    async with opened(guard, max_bytes=100_000) as passage, calling(passage) as caller:
        caller.say(f"POST http://{SITE}/ HTTP/1.1", "Host: a", "Content-Length: 1000000", shown(passage))
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                caller.writer.write(b"a" * 100_000)
                await caller.writer.drain()
        caller.writer.write_eof()
        assert await caller.rest() == b""
        assert passage.spent
        assert passage.bytes_sent <= 100_000


async def test_the_seconds_of_a_passage_end_everything_in_it(guard: Guard, internet: Internet, clock: Clock) -> None:
    await internet.serve(silent)
    async with opened(guard, seconds=7) as passage, calling(passage) as waiting, calling(passage) as other:
        ask(waiting, passage)
        await until(lambda: internet.at_work == 1)
        clock.advance(6.9)
        early = passage.spent
        clock.advance(0.1)
        assert (early, passage.spent) == (False, True)
        assert await waiting.rest() == b""
        ask(other, passage)
        assert (await other.heard())[0] == 503
        await until(lambda: internet.at_work == 0)


async def test_a_passage_has_so_many_connections(
    guard: Guard, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "MOST_CONNECTIONS_OF_A_PASSAGE", 3)
    await internet.serve(echo, port=443)
    async with opened(guard) as passage, opened(guard) as other, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await tunnel(await stack.enter_async_context(calling(passage)), passage)
        async with calling(passage) as fourth, calling(other) as elsewhere:
            ask(fourth, passage)
            status, headers, _ = await fourth.heard()
            assert (status, headers["x-homelab-failed"]) == (503, "there are too many connections")
            await tunnel(elsewhere, other)
        await stack.aclose()
        await until(lambda: not passage.connections)
        async with calling(passage) as again:
            await tunnel(again, passage)


async def test_strangers_keep_nobody_out(guard: Guard, internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MOST_CONNECTIONS", 3)
    await internet.serve(echo, port=443)
    async with opened(guard) as passage, contextlib.AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(calling(passage)) for _ in range(5)]
        await tunnel(await stack.enter_async_context(calling(passage)), passage)
        assert [await stranger.rest() for stranger in strangers[:3]] == [b""] * 3
        for _ in range(2):
            await tunnel(await stack.enter_async_context(calling(passage)), passage)
        async with calling(passage) as refused:
            assert await refused.rest() == b""


# --- too slow


async def test_a_client_that_does_not_ask_is_let_go(guard: Guard, clock: Clock) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        caller.writer.write(b"GET http://site.exa")
        await until(lambda: waited_for(clock, conversation.HEAD_SECONDS))
        clock.advance(conversation.HEAD_SECONDS)
        assert await caller.rest() == b""


async def test_a_server_that_does_not_answer(guard: Guard, internet: Internet, clock: Clock) -> None:
    async def trickling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nSlow: ")
        await silent(reader, writer)

    await internet.serve(trickling)
    async with opened(guard) as passage, calling(passage) as caller:
        ask(caller, passage)
        await until(lambda: waited_for(clock, exchange.ANSWER_SECONDS))
        clock.advance(exchange.ANSWER_SECONDS)
        status, headers, _ = await caller.heard()
    assert (status, headers["x-homelab-failed"]) == (502, "it has not answered within 30 s")
    assert passage.failures == [(f"http://{SITE}/", "it has not answered within 30 s")]


async def test_a_body_that_stops(guard: Guard, internet: Internet, clock: Clock) -> None:
    async def stopping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await silent(reader, writer)

    await internet.serve(stopping)
    async with opened(guard) as passage, calling(passage) as caller:
        ask(caller, passage)
        assert (await caller.reader.readuntil(b"half")).endswith(b"\r\n\r\nhalf")
        await until(lambda: waited_for(clock, exchange.IDLE_SECONDS))
        clock.advance(exchange.IDLE_SECONDS)
        assert await caller.rest() == b""
    assert passage.failures == [(f"http://{SITE}/", "nothing has moved for 30 s")]


async def test_a_tunnel_in_which_nothing_moves_is_closed(guard: Guard, internet: Internet, clock: Clock) -> None:
    await internet.serve(echo, port=443)
    async with opened(guard) as passage, calling(passage) as caller:
        await tunnel(caller, passage)
        await until(lambda: waited_for(clock, exchange.IDLE_SECONDS))
        for _ in range(3):
            clock.advance(exchange.IDLE_SECONDS - 1)
            caller.writer.write(b"a")
            assert await caller.reader.readexactly(1) == b"a"
        clock.advance(exchange.IDLE_SECONDS)
        assert await caller.rest() == b""
        await until(lambda: internet.at_work == 0)


async def test_a_tunnel_in_which_only_the_server_speaks_stays(guard: Guard, internet: Internet, clock: Clock) -> None:
    ticks: asyncio.Queue[bytes] = asyncio.Queue()

    async def ticking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await ticks.get())

    await internet.serve(ticking, port=443)
    async with opened(guard) as passage, calling(passage) as caller:
        await tunnel(caller, passage)
        await until(lambda: waited_for(clock, exchange.IDLE_SECONDS))
        for _ in range(3):
            clock.advance(exchange.IDLE_SECONDS - 1)
            ticks.put_nowait(b"a")
            assert await caller.reader.readexactly(1) == b"a"


async def test_a_client_that_does_not_read_holds_up_the_server(guard: Guard, internet: Internet, clock: Clock) -> None:
    await internet.serve(endless)
    async with opened(guard) as passage, calling(passage) as caller:
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        ask(caller, passage)
        seen = -1
        while seen != passage.bytes_received or seen < 1000:
            seen = passage.bytes_received
            await asyncio.sleep(0.1)
        assert seen < 32 * MB, "what fits into the buffers of the system, and no more"
        clock.advance(exchange.IDLE_SECONDS)
        await until(lambda: internet.at_work == 0)
        await until(lambda: waited_for(clock, 2))
        clock.advance(2)
        await until(lambda: not passage.connections)


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_a_server_that_takes_no_connection(guard: Guard, internet: Internet, clock: Clock, method: str) -> None:
    internet.names[SITE] = [["1.1.1.1"]]
    internet.hanging.add("1.1.1.1")
    async with opened(guard) as passage, calling(passage) as caller:
        target = f"http://{SITE}/" if method == "GET" else f"{SITE}:443"
        caller.say(f"{method} {target} HTTP/1.1", "Host: a", shown(passage))
        await until(lambda: waited_for(clock, conversation.CONNECT_SECONDS))
        clock.advance(conversation.CONNECT_SECONDS)
        assert (await caller.heard())[0] == 502
    assert passage.failures == [(target, "it has taken no connection within 10 s")]


async def test_a_client_that_is_refused_in_the_middle_of_its_request_is_heard_out(guard: Guard) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        head = f"POST http://{SITE}/ HTTP/1.1", "Host: a", "Content-Length: 4", "Transfer-Encoding: chunked"
        caller.say(*head, end=b"a" * 5 * MB)
        assert (await caller.heard())[0] == 400
        assert await caller.reader.read() == b"", "not reset"


# --- names that are not found


async def test_a_resolver_that_hangs_is_not_waited_for(guard: Guard, internet: Internet, clock: Clock) -> None:
    internet.hanging.add("hanging.example")
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as passage, calling(passage) as caller, browsing(passage) as client:
        ask(caller, passage, "http://hanging.example/")
        await until(lambda: waited_for(clock, conversation.RESOLVE_SECONDS))
        assert (await client.get(f"http://{SITE}/")).text == "hello"
        clock.advance(conversation.RESOLVE_SECONDS)
        status, headers, _ = await caller.heard()
    assert (status, headers["x-homelab-failed"]) == (502, "its name has not been found within 5 s")


async def test_a_passage_with_many_hanging_names_holds_up_itself_alone(
    guard: Guard, internet: Internet, clock: Clock
) -> None:
    names = [f"hanging{number}.example" for number in range(20)]
    internet.hanging.update(names)
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as passage, opened(guard) as other, contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(passage)) for _ in names]
        for caller, name in zip(callers, names, strict=True):
            ask(caller, passage, f"http://{name}/")
        await until(lambda: len(passage.connections) == 20 and len(internet.asked) == 8)
        async with browsing(other) as client:
            assert (await client.get(f"http://{SITE}/")).text == "hello"
        clock.advance(conversation.RESOLVE_SECONDS)
        assert [(await caller.heard())[0] for caller in callers] == [502] * 20
        assert len(internet.asked) == 9, "those that hang keep their places"


# --- gone


async def test_when_the_client_goes_its_server_is_let_go(guard: Guard, internet: Internet) -> None:
    await internet.serve(silent)
    await internet.serve(echo, port=443)
    async with opened(guard) as passage:
        async with calling(passage) as caller, calling(passage) as other:
            ask(caller, passage)
            await tunnel(other, passage)
            await until(lambda: internet.at_work == 2)
        await until(lambda: internet.at_work == 0)
        await until(lambda: not passage.connections)
        assert passage.failures == []


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
)
async def test_half_an_answer_is_not_taken_for_a_whole_one(guard: Guard, internet: Internet, half: bytes) -> None:
    await internet.serve(saying(half))
    async with opened(guard) as passage, browsing(passage) as client:
        assert await streamed(client) == (b"half", False)
    assert passage.failures == [(f"http://{SITE}/", "it has stopped in the middle of its answer")]


async def test_a_server_that_resets_its_connections(guard: Guard, internet: Internet) -> None:
    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    await internet.serve(resetting)
    await internet.serve(resetting, port=443)
    async with opened(guard) as passage, calling(passage) as caller, calling(passage) as other:
        ask(caller, passage)
        assert (await caller.heard())[0] == 502
        await tunnel(other, passage)
        other.writer.write(b"\r\n\r\n")
        assert await other.rest() == b""


async def test_whoever_is_cancelled_takes_everything_along(guard: Guard, internet: Internet) -> None:
    await internet.serve(silent)

    async def crawl() -> None:
        async with opened(guard) as passage, browsing(passage) as client:
            await client.get(f"http://{SITE}/")

    crawling = asyncio.ensure_future(crawl())
    await until(lambda: internet.at_work == 1)
    crawling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crawling
    await until(lambda: internet.at_work == 0)


async def test_the_end_of_the_guard_is_the_end_of_all(guard: Guard, internet: Internet) -> None:
    await internet.serve(silent)
    internet.hanging |= {"hanging.example", "1.1.1.1"}
    internet.names["away.example"] = [["1.1.1.1"]]
    async with opened(guard) as passage, contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(passage)) for _ in range(4)]
        for caller, host in zip(callers, (SITE, "hanging.example", "away.example"), strict=False):
            ask(caller, passage, f"http://{host}/")
        await until(lambda: internet.at_work == 1 and len(internet.dialled) == 2 and len(internet.asked) == 3)
        await guard.close()
        assert [await caller.rest() for caller in callers] == [b""] * 4


async def test_a_fault_of_the_guards_own_costs_one_connection_and_tells_no_address(
    guard: Guard, internet: Internet, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as passage, calling(passage) as caller, browsing(passage) as client:
        with monkeypatch.context() as broken:
            broken.setattr(Policy, "objection", lambda *_: 1 / 0)
            ask(caller, passage)
            assert await caller.rest() == b""
        assert (await client.get(f"http://{SITE}/")).text == "hello"
    assert set(log.messages) == {"a connection through the guard has failed"}
    assert internet.arrived == 1


# --- many


async def test_two_hundred_connections_at_once(guard: Guard, internet: Internet) -> None:
    await internet.serve(echo, port=443)
    await internet.serve(saying(with_body(b"b" * 10_000)))

    async def through_a_tunnel(passage: Passage, blob: bytes) -> None:
        async with calling(passage) as caller:
            await tunnel(caller, passage)
            caller.writer.write(blob)
            assert await caller.reader.readexactly(len(blob)) == blob

    async def by_request(passage: Passage) -> None:
        async with calling(passage) as caller:
            ask(caller, passage)
            assert len((await caller.heard())[2]) == 10_000

    async with contextlib.AsyncExitStack() as stack:
        passages = [await stack.enter_async_context(opened(guard)) for _ in range(5)]
        await asyncio.gather(
            *(through_a_tunnel(passage, os.urandom(20_000)) for passage in passages for _ in range(20)),
            *(by_request(passage) for passage in passages for _ in range(20)),
        )
        assert internet.arrived == 200
        assert [passage.bytes_sent > 400_000 for passage in passages] == [True] * 5


async def test_what_is_remembered_of_a_passage_has_an_end(guard: Guard) -> None:
    async with opened(guard, Policy(allow_networks=(ip_network("10.0.0.0/8"),))) as passage:
        for number in range(1100):
            passage.note_blocked("a" * number, "no")
    assert len(passage.blocked) == 1000
