"""Pages read by the whole service, over HTTP and in a browser, of sites that say what may be fetched, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from homelab_ai.crawling.browser import Browser
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.extractor import Extractor
from homelab_ai.crawling.politeness import Politeness
from homelab_ai.crawling.service import CrawlService, Order, Page
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.errors import CrawlBlocked, RequestTimeout, ResourceExhausted
from homelab_ai.models.hosts.host import Host
from homelab_ai.settings import Settings
from support.browsers import NEEDS_CHROMIUM
from support.clock import Clock
from support.egress import SITE, Internet
from support.house import until
from support.sites import Served, Site

pytestmark = pytest.mark.anyio

OTHER, OTHER_ADDRESS = "other.example", "93.184.216.35"
ROBOTS = "/robots.txt"
CLOSED = "User-agent: *\nDisallow: /closed"
RENDERED = pytest.param(True, marks=NEEDS_CHROMIUM)
both_ways = pytest.mark.parametrize("rendered", [False, RENDERED])


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all, because they share a browser."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[tuple[Browser, Extractor]]:
    browser, extractor = Browser(Settings().crawl, Clock()), Extractor(Host.start, Clock())
    yield browser, extractor
    await browser.close()
    await extractor.close()


class World:
    """The service, and two sites that are made up."""

    def __init__(self, internet: Internet, guard: Guard, shared: tuple[Browser, Extractor]) -> None:
        self.internet = internet
        self.clock = Clock()
        self.site, self.other = Site({ROBOTS: Served(CLOSED)}), Site({ROBOTS: Served(CLOSED)})
        settings = self.settings()
        self.service = CrawlService(WayOut(guard, settings), *shared, Politeness(self.clock, settings.crawl), settings)

    @staticmethod
    def settings(**crawl: Any) -> Settings:
        given = {"respect_robots": True, "timeout_seconds": 40} | crawl
        return Settings.model_validate({"crawl": given, "resources": {"max_concurrent_requests": 1}})

    async def crawl(self, path: str = "/", *, rendered: bool = False, **order: Any) -> Page:
        url = path if "://" in path else f"http://{SITE}{path}"
        return await self.service.crawl(Order(url=url, wait_for_js=rendered, **order))

    async def is_refused(self, path: str = "/", *, rendered: bool) -> None:
        with pytest.raises(CrawlBlocked, match=r"robots\.txt.*crawl\.respect_robots"):
            await self.crawl(path, rendered=rendered)
        assert "/closed" not in self.site.paths() + self.other.paths()


@pytest.fixture
async def world(shared: tuple[Browser, Extractor]) -> AsyncIterator[World]:
    internet = Internet()
    internet.names[OTHER] = [[OTHER_ADDRESS]]
    guard = Guard(resolve=internet.resolve, dial=internet.dial, own_addresses=frozenset)
    world = World(internet, guard, shared)
    await internet.serve(world.site.talk)
    await internet.serve(world.other.talk, OTHER_ADDRESS)
    yield world
    await guard.close()
    await internet.close()


# --- robots.txt


@both_ways
async def test_a_page_that_is_closed_is_not_asked_for(world: World, *, rendered: bool) -> None:
    world.site.pages["/"] = Served("<p>Hello")
    assert (await world.crawl("/", rendered=rendered)).extracted.text == "Hello"
    await world.is_refused("/closed?a=b", rendered=rendered)
    assert world.site.paths() == [ROBOTS, "/"]


@both_ways
@pytest.mark.parametrize("host", [SITE, OTHER])
async def test_nor_is_one_that_a_redirect_leads_to(world: World, host: str, *, rendered: bool) -> None:
    world.site.pages["/"] = Served(status=302, headers={"Location": f"http://{host}/between"})
    for site in (world.site, world.other):
        site.pages["/between"] = Served(status=302, headers={"Location": "/closed"})
    await world.is_refused(rendered=rendered)
    asked = [(asked.host, asked.path) for asked in world.site.asked + world.other.asked]
    assert asked == list(dict.fromkeys([(SITE, ROBOTS), (SITE, "/"), (host, ROBOTS), (host, "/between")]))


@pytest.mark.parametrize("rendered", [RENDERED])
@pytest.mark.parametrize(
    "page",
    [
        "<p>Hello<script>location.href = 'http://other.example/closed'</script>",
        "<meta http-equiv=refresh content='0; url=/closed'><p>Hello",
        "<form method=post action=/closed></form><script>document.forms[0].submit()</script>",
    ],
)
async def test_nor_is_one_that_a_script_leads_to(world: World, page: str, *, rendered: bool) -> None:
    world.site.pages["/"] = Served(page)
    await world.is_refused(rendered=rendered)


@pytest.mark.parametrize("rendered", [RENDERED])
async def test_what_belongs_to_a_page_is_loaded_as_browsers_do(world: World, *, rendered: bool) -> None:
    world.other.pages[ROBOTS] = Served("User-agent: *\nDisallow: /")
    world.other.pages["/a.js"] = Served(
        "document.body.append(document.createElement('p')); document.querySelector('p').textContent = 'Hello'",
        "text/javascript",
    )
    world.other.pages["/frame"] = Served("<p>Inside")
    world.site.pages["/"] = Served(
        f"<body><script src=http://{OTHER}/a.js></script><iframe src=http://{OTHER}/frame></iframe>"
    )
    page = await world.crawl(rendered=rendered)
    assert "Hello" in page.extracted.text
    assert sorted(world.other.paths()) == ["/a.js", "/frame"]


@both_ways
async def test_a_page_that_moved_is_read_and_headers_are_for_it_alone(world: World, *, rendered: bool) -> None:
    world.site.pages["/"] = Served(status=302, headers={"Location": "/here"})
    world.site.pages["/here"] = Served(status=302, headers={"Location": f"http://{OTHER}/there"})
    world.other.pages["/there"] = Served("<p>Hello")
    page = await world.crawl(rendered=rendered, headers={"X-Own": "secret"})
    assert (page.url, page.extracted.text) == (f"http://{OTHER}/there", "Hello")
    assert [asked.path for asked in world.site.asked if "x-own" in asked.headers] == ["/", "/here"]
    assert world.site.paths() == [ROBOTS, "/", "/here"]
    assert [(asked.path, "x-own" in asked.headers) for asked in world.other.asked] == [
        (ROBOTS, False),
        ("/there", False),
    ]


@both_ways
async def test_a_robots_txt_that_does_not_come_takes_the_page_its_time(world: World, *, rendered: bool) -> None:
    world.site.pages[ROBOTS] = Served("User-agent: *", then="hang")
    with pytest.raises(RequestTimeout):
        await world.crawl(rendered=rendered, timeout_seconds=1)
    world.site.pages |= {ROBOTS: Served(CLOSED), "/": Served("<p>Hello")}
    assert (await world.crawl(rendered=rendered)).extracted.text == "Hello"


async def test_nobody_asks_unless_it_is_wished_which_may_change_at_any_time(world: World) -> None:
    world.service.follow(world.settings(respect_robots=False))
    world.site.pages["/closed"] = Served("<p>Hello")
    assert (await world.crawl("/closed")).extracted.text == "Hello"
    assert world.site.paths() == ["/closed"]
    world.site.asked.clear()
    world.service.follow(world.settings())
    await world.is_refused("/closed", rendered=False)


# --- one after the other


async def begun(world: World, *paths: str) -> list[asyncio.Task[Page]]:
    """Pages that have been asked for and have come as far as they can."""
    tasks = [asyncio.create_task(world.crawl(path)) for path in paths]
    for _ in range(5):  # and not until they are seen at work: the first may be done by then
        await asyncio.sleep(0)
    return tasks


async def done(*pages: Awaitable[Page]) -> list[str]:
    return [page.extracted.text for page in await asyncio.gather(*pages)]


async def test_who_waits_for_a_host_keeps_nobody_from_another(world: World) -> None:
    world.service.follow(world.settings(respect_robots=False, delay_seconds=20))
    for site in (world.site, world.other):
        site.pages |= {f"/{number}": Served(f"<p>Page {number}") for number in range(3)}
    await world.crawl("/0")
    waiting = await begun(world, "/1", "/2")
    assert await done(world.crawl(f"http://{OTHER}/0")) == ["Page 0"]  # through the only place there is
    assert world.site.paths() == ["/0"]
    world.clock.advance(20)
    await until(waiting[0].done)
    assert world.site.paths() == ["/0", "/1"]
    world.clock.advance(20)
    assert await done(*waiting) == ["Page 1", "Page 2"]


async def test_the_delay_that_a_site_wants_is_kept(world: World) -> None:
    world.site.pages |= {ROBOTS: Served("User-agent: *\nCrawl-delay: 7"), "/": Served("<p>Hello")}
    first, second = await begun(world, "/", "/")
    await first
    assert world.site.paths() == [ROBOTS, "/"]
    world.clock.advance(7)
    await second
    world.service.follow(world.settings(delay_seconds=9))
    (third,) = await begun(world, "/")
    world.clock.advance(8)
    world.other.pages["/"] = Served("<p>Hello")
    await world.crawl(f"http://{OTHER}/")
    assert world.site.paths() == [ROBOTS, "/", "/"]
    world.clock.advance(1)
    assert await done(third) == ["Hello"]


async def test_a_day_between_two_pages_is_half_a_minute(world: World) -> None:
    world.site.pages |= {ROBOTS: Served("User-agent: *\nCrawl-delay: 86400"), "/": Served("<p>Hello")}
    await world.crawl()
    with pytest.raises(ResourceExhausted) as raised:
        await world.crawl(timeout_seconds=10)
    assert raised.value.retry_after_seconds == 30
    world.clock.advance(30)
    assert await done(world.crawl(timeout_seconds=10)) == ["Hello"]


async def test_a_client_that_goes_while_it_waits_is_out_of_the_way(world: World) -> None:
    world.service.follow(world.settings(respect_robots=False, delay_seconds=20))
    world.site.pages["/"] = Served("<p>Hello")
    await world.crawl()
    first, second = await begun(world, "/", "/")
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    world.clock.advance(20)
    assert await done(second) == ["Hello"]
    assert world.service._at_work == 0
