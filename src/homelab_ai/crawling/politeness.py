"""When, and whether at all, a site is asked for a page: as `crawl.delay_seconds` and `crawl.respect_robots` say.

A page that waits for its host takes no place among those that are read: a slow host keeps nobody from the others.
"""

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import httpx2

from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.egress.targets import canonical
from homelab_ai.crawling.passage import MayGo
from homelab_ai.crawling.robots import Robots
from homelab_ai.errors import ResourceExhausted
from homelab_ai.models.clock import Clock
from homelab_ai.settings import CrawlSettings

_LONGEST_CRAWL_DELAY = 30.0
"""Of robots.txt: some sites write a day there, which nobody waits for."""
_RETRY_SECONDS = 5

Delay = Callable[[], float | None]
"""Tells the seconds between two pages of a host, as far as they are known by now."""


class Politeness:
    """What the operator wants of it, for all pages."""

    def __init__(self, clock: Clock, settings: CrawlSettings) -> None:
        self._robots = Robots(clock)
        self._turns = HostTurns(clock)
        self._settings = settings

    def follow(self, settings: CrawlSettings) -> None:
        """Go by these settings from the next page on."""
        self._settings = settings

    def turn(self, url: str, policy: Policy, seconds: float) -> AbstractAsyncContextManager[None]:
        """Wait at most so long until the host may be asked for this page; to be held until it is there.

        Raises `ResourceExhausted`.
        """
        host = canonical(httpx2.URL(url).host)
        return self._turns.turn(host, functools.partial(self._delay, url, policy), seconds)

    def may_go(self, passage: Passage) -> MayGo | None:
        """What is to be asked before the page, or one that it leads to, is fetched."""
        user_agent = self._settings.user_agent
        if not self._settings.respect_robots:
            return None
        return lambda url: self._robots.check(url, passage, user_agent)

    def _delay(self, url: str, policy: Policy) -> float | None:
        settings = self._settings
        if not settings.respect_robots:
            return settings.delay_seconds
        wanted = self._robots.delay(url, policy, settings.user_agent)
        return None if wanted is None else max(settings.delay_seconds, min(wanted, _LONGEST_CRAWL_DELAY))


@dataclass
class _Host:
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the page whose turn is next."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """For that page: another one is done, or time has passed."""
    concerned: int = 0
    """Pages that are at work or wait."""
    at_work: int = 0
    last_end: float = -math.inf
    kept_until: float = -math.inf


class HostTurns:
    """Pages of one host, one after the other with a delay between them, or all at once where there is none.

    While the delay of a host is not known (None), one page goes first and finds it out.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def turn(self, name: str, delay: Delay, seconds: float) -> AsyncIterator[None]:
        """Wait until everybody who came earlier has had their turn. Raises `ResourceExhausted`."""
        self._forget()
        host = self._hosts.setdefault(name, _Host())
        host.concerned += 1
        try:
            await self._wait(host, delay, seconds)
            try:
                yield
            finally:
                host.at_work -= 1
                host.last_end = self._clock.time()
                host.kept_until = host.last_end + (delay() or 0.0)
                host.news.set()
        finally:
            host.concerned -= 1

    async def _wait(self, host: _Host, delay: Delay, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds) as limit, host.order:
                while (remaining := self._remaining(host, delay)) > 0:
                    left = (limit.when() or 0.0) - asyncio.get_running_loop().time()
                    if left < remaining < math.inf:  # sooner said than waited for
                        raise _not_yet(math.ceil(remaining))
                    await self._news(host, remaining)
                host.at_work += 1
        except TimeoutError:
            raise _not_yet(_RETRY_SECONDS) from None

    def _remaining(self, host: _Host, delay: Delay) -> float:
        """Seconds until the next page; endless while one is at work that it is to follow."""
        seconds = delay()
        if seconds == 0:
            return 0.0
        return math.inf if host.at_work else host.last_end + (seconds or 0.0) - self._clock.time()

    async def _news(self, host: _Host, seconds: float) -> None:
        host.news.clear()
        timer = self._clock.call_later(seconds, host.news.set) if seconds < math.inf else None
        try:
            await host.news.wait()
        finally:
            if timer:
                timer.cancel()

    def _forget(self) -> None:
        now = self._clock.time()
        for name in [name for name, host in self._hosts.items() if not host.concerned and host.kept_until <= now]:
            del self._hosts[name]


def _not_yet(retry_after_seconds: int) -> ResourceExhausted:
    return ResourceExhausted(
        "Other pages of this host come first, one after the other: crawl.delay_seconds, or its robots.txt, wants it so",
        retry_after_seconds=retry_after_seconds,
    )
