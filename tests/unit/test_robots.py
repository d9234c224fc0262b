"""What a robots.txt allows, what it means that there is none, and how long it holds: of sites behind the guard."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from homelab_ai.crawling import robots as module
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.robots import Robots
from homelab_ai.errors import CrawlBlocked, CrawlFailed, ServiceError
from support.clock import Clock
from support.egress import PUBLIC, SITE, Internet, opened
from support.sites import Asked, Served, Site

pytestmark = pytest.mark.anyio

OTHER, OTHER_ADDRESS = "other.example", "93.184.216.35"
ROBOTS = "/robots.txt"


class World:
    """A site whose robots.txt a test writes, and who asks for it."""

    def __init__(self, internet: Internet, guard: Guard, site: Site) -> None:
        self.internet, self.guard, self.site = internet, guard, site
        self.clock = Clock()
        self.robots = Robots(self.clock)

    def says(self, text: str | bytes, status: int = 200, **more: str) -> None:
        self.site.pages[ROBOTS] = Served(text, "text/plain", status, headers=more)

    async def check(self, path: str = "/page", user_agent: str | None = None, policy: Policy | None = None) -> None:
        url = path if "://" in path else f"http://{SITE}{path}"
        async with opened(self.guard, policy) as passage:
            await self.robots.check(url, passage, user_agent)

    async def allows(self, path: str = "/page", user_agent: str | None = None) -> bool:
        try:
            await self.check(path, user_agent)
        except CrawlBlocked:
            return False
        return True

    async def failure(self) -> str:
        with pytest.raises(CrawlFailed) as raised:
            await self.check()
        assert "crawl.respect_robots" in raised.value.message
        return raised.value.message


@pytest.fixture
async def world() -> AsyncIterator[World]:
    internet = Internet()
    internet.names[OTHER] = [[OTHER_ADDRESS]]
    guard = Guard(resolve=internet.resolve, dial=internet.dial, own_addresses=frozenset)
    await guard.start()
    site = Site({})
    await internet.serve(site.talk)
    await internet.serve(site.talk, OTHER_ADDRESS)
    yield World(internet, guard, site)
    await guard.close()
    await internet.close()


# --- what it says


async def test_whoever_is_refused_learns_by_what(world: World) -> None:
    world.says("User-agent: *\nDisallow: /")
    with pytest.raises(CrawlBlocked, match=r"crawl\.respect_robots") as raised:
        await world.check()
    assert raised.value.details == {"reason": module._CLOSED}
    assert "robots.txt" in module._CLOSED


@pytest.mark.parametrize(
    ("text", "allowed", "closed"),
    [
        ("User-agent: *\nDisallow: /private", ["/", "/p"], ["/private", "/private/a?b=c"]),
        ("User-agent: *\nDisallow: /\nAllow: /open/", ["/open/a"], ["/", "/open"]),
        ("User-agent: *\nAllow: /a\nDisallow: /a/b/*.pdf$", ["/a/b/c.pdf?x=1"], ["/a/b/c.pdf"]),
        ("User-agent: *\nDisallow: /*?s=", ["/?q=1"], ["/a?s=1"]),
        ("User-agent: *\nDisallow: /caf%C3%A9", ["/cafe"], ["/caf%c3%a9", "/café"]),
        ("User-agent: *\nDisallow:", ["/"], []),
        ("User-agent: bot\nUser-agent: *\nDisallow: /a", ["/"], ["/a"]),
        ("User-agent: *\nDisallow: /a\n\nUser-agent: *\nDisallow: /b", ["/"], ["/a", "/b"]),
        ("\ufeffUser-agent: *\r\nDisallow: /a\r\n", ["/"], ["/a"]),
        ("User-agent: *\rDisallow: /a # not for you", ["/"], ["/a"]),
        ("<!doctype html><title>Disallow: /</title>", ["/"], []),
        ("\x00\xff\xfe" * 50, ["/"], []),
    ],
)
async def test_rules_for_all(world: World, text: str, allowed: list[str], closed: list[str]) -> None:
    world.says(text)
    assert [path for path in (*allowed, *closed) if await world.allows(path)] == allowed
    assert world.site.paths() == [ROBOTS]


@pytest.mark.parametrize(
    ("agent", "user_agent", "concerned"),
    [
        ("homelab-ai-api", None, True),
        ("HomeLab-AI-API/2.0", None, True),
        ("homelab", None, False),
        ("api", None, False),
        ("Mozilla", None, False),
        ("GPTBot", None, False),
        ("my-bot", "My-Bot/1.0 (+https://example.com)", True),
        ("homelab-ai-api", "My-Bot/1.0", False),
        ("my-bot", "Mozilla/5.0 (compatible; My-Bot/1.0)", True),
        ("Mozilla", "Mozilla/5.0 (X11; Linux x86_64) Chrome/140", True),
        ("X", "(what is this)", False),
        ("?", None, False),
    ],
)
@pytest.mark.parametrize("line", ["User-agent: {}", "user agent : {} # it", "USERAGENT {}"])
async def test_rules_for_one(world: World, line: str, agent: str, user_agent: str | None, *, concerned: bool) -> None:
    world.says(f"User-agent: *\nDisallow: /all\n\n{line.format(agent)}\nDisallow: /one\n")
    allowed = [path for path in ("/all", "/one") if await world.allows(path, user_agent)]
    assert allowed == (["/all"] if concerned else ["/one"])


async def test_it_is_asked_for_by_the_name_that_pages_are_asked_for_with(world: World) -> None:
    world.says("User-agent: *\nAllow: /")
    await world.check(user_agent="My-Bot/1.0")
    assert world.site.asked[0].headers["user-agent"] == "My-Bot/1.0"


async def test_a_file_that_is_made_to_take_all_memory_does_not(world: World) -> None:
    # Kept once for each program, a full file of such rules would take gigabytes.
    agents = "".join(f"User-agent: bot{number}\n" for number in range(2000))
    rules = "".join(f"Disallow: /{number:x}\n" for number in range(2000))
    world.says(f"{agents}User-agent: *\n{rules}")
    assert not await world.allows("/5")
    (site,) = world.robots._sites.values()
    assert site.rules
    assert len(site.rules._user_agents) == 2


async def test_more_than_half_a_megabyte_is_not_read_and_half_a_line_closes_nothing(world: World) -> None:
    head, line = "User-agent: *\nDisallow: /first\n", "Disallow: /long-enough\n"
    filler = "#" * (module._MOST_BYTES - len(head) - 1 - len("Disallow: /")) + "\n"
    world.says(head + filler + line + "Disallow: /last\n")
    assert not await world.allows("/first")
    assert await world.allows("/long-enough")
    assert await world.allows("/last")


# --- where there is none


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410, 418])
async def test_without_one_everything_is_allowed(world: World, status: int) -> None:
    world.says("" if status in {204, 304} else "User-agent: *\nDisallow: /", status)
    assert await world.allows()


@pytest.mark.parametrize("status", [429, 500, 503, 599])
async def test_a_site_that_cannot_say_is_closed_until_it_can(world: World, status: int) -> None:
    world.says("User-agent: *\nAllow: /", status)
    assert f"(status {status})" in await world.failure()
    world.says("", 404)
    await world.check()


async def test_a_site_that_cannot_be_reached_is_closed(world: World) -> None:
    world.internet.names[SITE] = [["93.184.216.99"]]
    assert "it has refused the connection" in await world.failure()
    del world.internet.names[SITE]
    assert "not been found" in await world.failure()


async def test_a_file_that_breaks_off_or_does_not_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.site.pages[ROBOTS] = Served("User-agent: *\nAllow: /", then="cut")
    assert "has not come as a whole" in await world.failure()
    monkeypatch.setattr(module, "_FETCH_SECONDS", 0.05)
    world.site.pages[ROBOTS] = Served("User-agent: *\nAllow: /", then="drip")
    assert "has not come" in await world.failure()
    world.internet.hanging.add(PUBLIC)
    assert "within 0.05 s" in await world.failure()


async def test_redirects_are_followed_to_other_sites_too(world: World) -> None:
    for number in range(5):
        path = ROBOTS if number == 0 else f"/{number}"
        world.site.pages[path] = Served(status=302, headers={"Location": f"/{number + 1}"})
    world.site.pages["/5"] = Served(status=301, headers={"Location": f"http://{OTHER}/rules"})
    world.site.pages["/rules"] = Served("User-agent: *\nDisallow: /page")
    assert not await world.allows()
    assert world.site.asked[-1] == Asked(OTHER, "/rules", world.site.asked[-1].headers)


async def test_the_guard_decides_of_it_as_of_a_page(world: World) -> None:
    world.internet.names[SITE] = [["192.168.1.1"]]
    with pytest.raises(CrawlBlocked, match="its address is private"):
        await world.check()
    world.internet.names[SITE] = [[PUBLIC]]
    world.says("", 302, Location="http://192.168.1.1/robots.txt")
    with pytest.raises(CrawlBlocked, match="its address is private"):
        await world.check()
    assert ("192.168.1.1", 80) not in world.internet.dialled


# --- how long, and for whom, it holds


async def test_it_holds_for_an_hour(world: World) -> None:
    world.says("User-agent: *\nDisallow: /page")
    assert not await world.allows()
    world.says("", 404)
    world.clock.advance(3599)
    assert not await world.allows("/page?again")
    world.clock.advance(1)
    assert await world.allows()
    assert world.site.paths() == [ROBOTS] * 2


async def test_each_origin_has_its_own(world: World) -> None:
    world.says("User-agent: *\nDisallow: /page")
    for url in (f"http://{SITE}/page", f"http://{SITE}:80/page", f"http://{SITE.upper()}/page", f"http://{OTHER}/page"):
        assert not await world.allows(url)
    assert [asked.host for asked in world.site.asked] == [SITE, OTHER]
    await world.internet.serve(world.site.talk, port=8080)
    assert not await world.allows(f"http://{SITE}:8080/page")
    assert len(world.site.asked) == 3


async def test_what_one_key_has_learned_another_does_not(world: World) -> None:
    world.internet.names["nas.lan"] = [["192.168.1.9"]]
    await world.internet.serve(world.site.talk, "192.168.1.9")
    world.says("User-agent: *\nDisallow: /page")
    url, home = "http://nas.lan/page", Policy(allow_networks=(ip_network("192.168.1.0/24"),))
    for _ in range(2):
        with pytest.raises(CrawlBlocked, match=r"robots\.txt"):
            await world.check(url, policy=home)
        with pytest.raises(CrawlBlocked, match="its address is private"):
            await world.check(url)
    assert world.site.paths() == [ROBOTS]
    assert world.robots.delay(url, home, None) == 0
    assert world.robots.delay(url, Policy(), None) is None


async def test_one_asks_for_all_and_the_next_where_the_first_has_gone(world: World) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await release.wait()
        await world.site.talk(reader, writer)

    await world.internet.serve(slow, OTHER_ADDRESS)
    world.says("User-agent: *\nDisallow: /page")
    url = f"http://{OTHER}/page"
    first, *others = (asyncio.create_task(world.check(url)) for _ in range(5))
    await arrived.wait()
    arrived.clear()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await arrived.wait()
    release.set()
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [CrawlBlocked] * 4
    assert world.internet.arrived == 2


async def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SITES", 3)
    names = [f"{letter}.example" for letter in "abcdef"]
    world.internet.names |= {name: [[PUBLIC]] for name in names[:3]}  # the others do not exist: failures count, too
    for name in names:
        with contextlib.suppress(ServiceError):
            await world.check(f"http://{name}/")
    assert len(world.robots._sites) == 3
    world.says(b"#" * 600)
    monkeypatch.setattr(module, "_MOST_BYTES_KEPT", 1000)
    for name in names[:3]:
        await world.check(f"http://{name}/")
    assert sum(site.size for site in world.robots._sites.values()) <= 1200


async def test_what_is_used_again_is_remembered_longest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SITES", 2)
    world.internet.names["third.example"] = [[PUBLIC]]
    for host in (SITE, OTHER, SITE, "third.example", SITE):
        await world.check(f"http://{host}/")
    assert [asked.host for asked in world.site.asked] == [SITE, OTHER, "third.example"]


async def test_the_delay_that_a_site_wants(world: World) -> None:
    world.says("User-agent: *\nCrawl-delay: 2.5\n\nUser-agent: my-bot\nCrawl-delay: nan\n")
    url = f"http://{SITE}/page"
    assert world.robots.delay(url, Policy(), None) is None
    await world.check()
    assert world.robots.delay(f"http://{SITE}/other", Policy(), None) == 2.5
    await world.check(user_agent="my-bot")
    assert world.robots.delay(url, Policy(), "my-bot") == 0
