"""Whose turn it is at a host, by a clock that passes only when a test says so."""

import asyncio
import contextlib

import pytest

from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.politeness import HostTurns, Politeness
from homelab_ai.errors import ResourceExhausted
from homelab_ai.settings import CrawlSettings
from support.clock import Clock
from support.house import quiet

pytestmark = pytest.mark.anyio

SECONDS = 1000.0


class Hosts:
    """Pages that begin and end when a test says so."""

    def __init__(self, delay: float | None = 0.0) -> None:
        self.clock = Clock()
        self.turns = HostTurns(self.clock)
        self.delay = delay
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.pages: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *pages: str, host: str = "a", seconds: float = SECONDS) -> None:
        """Have pages ask for their turn, in this order."""
        for page in pages:
            self._ends[page] = asyncio.Event()
            self.pages[page] = asyncio.create_task(self._read(page, host, seconds))
            await quiet()

    async def end(self, page: str) -> None:
        self._ends[page].set()
        await quiet()

    async def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await quiet()

    async def _read(self, page: str, host: str, seconds: float) -> None:
        async with self.turns.turn(host, lambda: self.delay, seconds):
            self.begun.append(page)
            await self._ends[page].wait()


async def test_without_a_delay_nobody_waits() -> None:
    hosts = Hosts()
    await hosts.ask("1", "2", "3")
    assert hosts.begun == ["1", "2", "3"]


async def test_with_a_delay_one_follows_the_other_in_the_order_of_their_coming() -> None:
    hosts = Hosts(delay=10)
    await hosts.ask("1", "2", "3")
    await hosts.passes(100)
    assert hosts.begun == ["1"]
    await hosts.end("1")
    await hosts.ask("4")
    await hosts.passes(9.9)
    assert hosts.begun == ["1"]
    await hosts.passes(0.2)
    assert hosts.begun == ["1", "2"]
    await hosts.end("2")
    await hosts.passes(10)
    await hosts.end("3")
    await hosts.passes(10)
    assert hosts.begun == ["1", "2", "3", "4"]


async def test_who_comes_in_the_moment_in_which_it_is_free_again_does_not_overtake() -> None:
    hosts = Hosts(delay=10)
    await hosts.ask("1")
    await hosts.end("1")
    await hosts.ask("2")
    hosts.clock.advance(10)
    with pytest.raises(ResourceExhausted):
        async with hosts.turns.turn("a", lambda: hosts.delay, 0):
            pass
    assert hosts.begun == ["1", "2"]


async def test_hosts_do_not_wait_for_each_other() -> None:
    hosts = Hosts(delay=10)
    await hosts.ask("1")
    await hosts.ask("other", host="b")
    assert hosts.begun == ["1", "other"]


async def test_the_first_finds_out_and_the_others_go_by_it() -> None:
    hosts = Hosts(delay=None)
    await hosts.ask("1", "2", "3")
    assert hosts.begun == ["1"]
    hosts.delay = 0
    await hosts.end("1")
    assert hosts.begun == ["1", "2", "3"]


async def test_a_first_that_has_found_nothing_out_leaves_it_to_the_next() -> None:
    hosts = Hosts(delay=None)
    await hosts.ask("1", "2", "3")
    await hosts.end("1")
    assert hosts.begun == ["1", "2"]


async def test_who_goes_lets_the_next_go() -> None:
    hosts = Hosts(delay=10)
    await hosts.ask("1", "2", "3", "4")
    for page in ("3", "2", "1"):  # in the queue, first in it, and at work
        hosts.pages[page].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hosts.pages[page]
    await quiet()
    assert hosts.begun == ["1"]
    await hosts.passes(10)
    assert hosts.begun == ["1", "4"]
    await hosts.end("4")
    assert not any(host.concerned or host.at_work or host.order.locked() for host in hosts.turns._hosts.values())


async def test_a_page_that_fails_has_had_its_turn() -> None:
    hosts = Hosts(delay=10)

    async def fail() -> None:
        async with hosts.turns.turn("a", lambda: hosts.delay, SECONDS):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        await fail()
    await hosts.ask("1")
    assert hosts.begun == []
    await hosts.passes(10)
    assert hosts.begun == ["1"]


async def test_who_has_no_time_to_wait_is_told_when_to_come_again() -> None:
    hosts = Hosts(delay=60)
    await hosts.ask("1")
    await hosts.ask("2", seconds=0)
    with pytest.raises(ResourceExhausted, match=r"crawl\.delay_seconds") as raised:
        await hosts.pages["2"]
    assert raised.value.retry_after_seconds == 5
    await hosts.end("1")
    await hosts.passes(14.5)
    await hosts.ask("3", seconds=30)
    with pytest.raises(ResourceExhausted) as raised:
        await hosts.pages["3"]
    assert raised.value.retry_after_seconds == 46
    await hosts.ask("4")
    await hosts.passes(45.5)
    assert hosts.begun == ["1", "4"]


async def test_hosts_are_forgotten_when_their_delay_is_over() -> None:
    hosts = Hosts(delay=10)
    for number in range(20):
        await hosts.ask(str(number), host=str(number))
        await hosts.end(str(number))
    assert len(hosts.turns._hosts) == 20
    await hosts.passes(10)
    await hosts.ask("last", host="last")
    assert set(hosts.turns._hosts) == {"last"}
    assert not [timer for timer in hosts.clock._timers if not timer.cancelled]


async def test_a_timer_is_not_left_behind() -> None:
    hosts = Hosts(delay=10)
    await hosts.ask("1")
    await hosts.end("1")
    await hosts.ask("2")
    hosts.pages["2"].cancel()
    await quiet()
    assert [timer.cancelled for timer in hosts.clock._timers] == [True]


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ("http://a.test/1", "https://A.test.:8443/2", True),
        ("http://[::1]/", "http://[0:0::1]:8080/", True),
        ("http://a.test/", "http://www.a.test/", False),
    ],
)
async def test_a_host_is_one_however_it_is_written(first: str, second: str, *, waits: bool) -> None:
    politeness = Politeness(Clock(), CrawlSettings(delay_seconds=60))
    async with politeness.turn(first, Policy(), SECONDS):
        pass
    with contextlib.ExitStack() as expected:
        if waits:
            expected.enter_context(pytest.raises(ResourceExhausted))
        async with politeness.turn(second, Policy(), 30):
            pass


async def test_settings_are_followed_from_the_next_page_on() -> None:
    politeness = Politeness(Clock(), CrawlSettings(delay_seconds=60))
    async with politeness.turn("http://a.test/", Policy(), SECONDS):
        politeness.follow(CrawlSettings())
        async with politeness.turn("http://a.test/", Policy(), SECONDS):
            pass
