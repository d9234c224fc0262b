"""When the browser is started, kept, replaced and ended: without one."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.crawling import browser as module
from homelab_ai.crawling.browser import Browser, Wishes
from homelab_ai.crawling.browser_process import BrowserDied, BrowserProcess, BrowserStartFailed
from homelab_ai.crawling.pages import Kind, Rendered, RenderFailed
from homelab_ai.crawling.passage import MayGo
from homelab_ai.errors import CrawlBlocked, CrawlFailed, RequestTimeout, ServiceError
from homelab_ai.settings import CrawlSettings
from support.clock import Clock
from support.house import quiet
from support.sites import TestPassage as Passage

pytestmark = pytest.mark.anyio

PAGE = Rendered({"url": "http://a.test/", "status": 200, "title": "A", "complete": True, "notes": []}, b"<p>", b"")
URL = "http://a.test/"


class FakeProcess(BrowserProcess):
    """Answers as it is told to."""

    def __init__(self, answers: list[Rendered | Exception]) -> None:
        self.described = {"version": "1.2", "sandboxed": True}
        self.pages = 0
        self.answers = answers
        self.wishes: list[dict[str, Any]] = []
        self.held: asyncio.Event | None = None
        self.at_once = self.most_at_once = 0
        self.stopped = self.killed = False

    @property
    def alive(self) -> bool:
        return not (self.stopped or self.killed)

    async def render(self, wish: dict[str, Any], may_go: MayGo | None = None) -> Rendered:
        self.pages += 1
        self.wishes.append(wish)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.held:
                await self.held.wait()
            answer = self.answers.pop(0) if self.answers else PAGE
            if isinstance(answer, BrowserDied):
                self.killed = True
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_once -= 1

    async def idle(self) -> None:
        while self.at_once:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.killed = True


class Garage:
    """Stands where `BrowserProcess.start` stands."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.started: list[FakeProcess] = []
        self.answers: list[Rendered | Exception] = []
        self.failure: Exception | None = None
        self.held: asyncio.Event | None = None
        self.starting: asyncio.Event | None = None

    async def __call__(self, options: dict[str, Any]) -> BrowserProcess:
        self.asked.append(options)
        if self.starting:
            await self.starting.wait()
        if self.failure:
            raise self.failure
        process = FakeProcess(self.answers)
        process.held = self.held
        self.started.append(process)
        return process


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def garage() -> Garage:
    return Garage()


@pytest.fixture
async def browser(garage: Garage, clock: Clock) -> AsyncIterator[Browser]:
    browser = Browser(CrawlSettings(), clock, garage)
    yield browser
    await browser.close()


async def render(browser: Browser, seconds: float = 30, passage: Passage | None = None, url: str = URL) -> Any:
    wishes = Wishes(seconds, 1000, headers={"X-Own": "1"})
    return await browser.render(url, passage or Passage("http://127.0.0.1:1", "u", "p"), wishes)


async def failure(browser: Browser, **options: Any) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await render(browser, **options)
    return raised.value


async def test_there_is_none_before_the_first_page_and_one_for_all(browser: Browser, garage: Garage) -> None:
    assert garage.asked == []
    garage.starting = asyncio.Event()
    pages = [asyncio.create_task(render(browser)) for _ in range(3)]
    await quiet()
    garage.starting.set()
    await asyncio.gather(*pages)
    assert len(garage.started) == 1
    assert browser.running
    assert (browser.sandboxed, browser.version) == (True, "1.2")


async def test_so_many_pages_at_once_and_the_rest_in_their_turn(browser: Browser, garage: Garage) -> None:
    garage.held = asyncio.Event()
    pages = [asyncio.create_task(render(browser)) for _ in range(9)]
    await quiet()
    assert garage.started[0].at_once == 4
    assert browser.at_work == 9
    garage.held.set()
    await asyncio.gather(*pages)
    assert garage.started[0].most_at_once == 4
    assert browser.at_work == 0


async def test_who_waits_for_a_place_waits_no_longer_than_its_time(browser: Browser, garage: Garage) -> None:
    garage.held = asyncio.Event()
    pages = [asyncio.create_task(render(browser)) for _ in range(4)]
    await quiet()
    assert isinstance(await failure(browser, seconds=0.02), RequestTimeout)
    garage.held.set()
    await asyncio.gather(*pages)


async def test_a_browser_that_does_not_let_go_is_ended(
    browser: Browser, garage: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.01)
    garage.held = asyncio.Event()
    assert isinstance(await failure(browser, seconds=0.02), RequestTimeout)
    assert garage.started[0].killed


@pytest.mark.parametrize(
    "death",
    [BrowserDied(), RenderFailed("crashed", ""), RenderFailed("disturbed", "")],
    ids=["browser", "page", "network"],
)
async def test_a_page_is_tried_once_more(browser: Browser, garage: Garage, death: Exception) -> None:
    garage.answers += [death]
    assert (await render(browser)).title == "A"
    assert len(garage.started) == (2 if isinstance(death, BrowserDied) else 1)
    garage.answers += [death, death, PAGE]
    assert isinstance(await failure(browser), CrawlFailed)
    assert (await render(browser)).title == "A"


async def test_it_goes_when_it_is_idle(browser: Browser, garage: Garage, clock: Clock) -> None:
    await render(browser)
    clock.advance(299)
    await render(browser)
    clock.advance(299)
    assert browser.running
    garage.started[0].held = asyncio.Event()
    page = asyncio.create_task(render(browser))
    await quiet()
    clock.advance(1000)
    assert browser.running  # it is at work
    garage.started[0].held.set()
    await page
    clock.advance(300)
    await quiet()
    assert garage.started[0].stopped


async def test_the_time_that_it_stays_can_be_changed(browser: Browser, garage: Garage, clock: Clock) -> None:
    browser.follow(CrawlSettings(browser_idle_minutes=-1))
    await render(browser)
    clock.advance(1_000_000)
    assert browser.running
    browser.follow(CrawlSettings(browser_idle_minutes=0))
    clock.advance(0)
    await quiet()
    assert garage.started[0].stopped


async def test_it_is_replaced_after_so_many_pages_and_finishes_its_last(
    browser: Browser, garage: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGES_OF_ONE_BROWSER", 3)
    garage.held = asyncio.Event()
    pages = [asyncio.create_task(render(browser)) for _ in range(4)]
    await quiet()
    assert [process.at_once for process in garage.started] == [3, 1]
    assert not garage.started[0].stopped
    garage.held.set()
    await asyncio.gather(*pages)
    await quiet()
    assert [process.stopped for process in garage.started] == [True, False]


async def test_whether_there_is_a_sandbox_is_found_out_once(browser: Browser, garage: Garage) -> None:
    garage.answers += [BrowserDied()]
    await render(browser)
    assert garage.asked == [{"sandbox": None}, {"sandbox": True}]


async def test_where_there_is_no_browser(browser: Browser, garage: Garage) -> None:
    garage.failure = BrowserStartFailed("no Chromium is installed; install it")
    assert str(await failure(browser)) == "Pages cannot be rendered here: no Chromium is installed; install it"
    garage.failure = None
    assert (await render(browser)).title == "A"


async def test_where_there_is_no_room_for_what_it_writes(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    browser = Browser(CrawlSettings(), clock)
    told = "Pages cannot be rendered here: its process could not be started: No such file or directory"
    assert str(await failure(browser)) == told


async def test_the_service_ends_while_one_is_starting(browser: Browser, garage: Garage) -> None:
    garage.starting = asyncio.Event()
    page = asyncio.create_task(render(browser))
    await quiet()
    await browser.close()
    with pytest.raises(CrawlFailed, match="the service is stopping"):
        await page


async def test_who_gives_up_does_not_end_the_start_for_others(browser: Browser, garage: Garage) -> None:
    garage.starting = asyncio.Event()
    first, second = asyncio.create_task(render(browser)), asyncio.create_task(render(browser))
    await quiet()
    first.cancel()
    await quiet()
    garage.starting.set()
    assert (await second).title == "A"
    assert first.cancelled()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://A.test:80/x?y", "http://a.test"),
        ("https://a.test:443", "https://a.test"),
        ("http://a.test:8080/", "http://a.test:8080"),
        ("http://bücher.test/", "http://xn--bcher-kva.test"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
async def test_the_origin_that_gets_the_headers(browser: Browser, garage: Garage, url: str, origin: str) -> None:
    await render(browser, url=url)
    assert garage.started[0].wishes[0]["origin"] == origin


@pytest.mark.parametrize(
    ("kind", "reason", "code", "words"),
    [
        ("timeout", "", "TIMEOUT", "was not there within 30 s"),
        ("blocked", "10.0.0.1 is not public", "CRAWL_BLOCKED", "10.0.0.1 is not public"),
        ("selector", "", "INVALID_REQUEST", "wait_for_selector: is no CSS selector"),
        ("download", "", "UNSUPPORTED_MEDIA_TYPE", "a file to be downloaded"),
        ("net", "ERR_CERT_AUTHORITY_INVALID", "CRAWL_FAILED", "cannot be trusted"),
        ("net", "ERR_TOO_MANY_REDIRECTS", "CRAWL_FAILED", "redirects without end"),
        ("net", "ERR_NEVER_HEARD_OF", "CRAWL_FAILED", "broke off (ERR_NEVER_HEARD_OF)"),
        ("net", "its server was not found", "CRAWL_FAILED", "its server was not found"),
        ("failed", "KeyError", "CRAWL_FAILED", "could not render the page"),
    ],
)
async def test_what_is_said_of_a_failure(
    browser: Browser, garage: Garage, kind: Kind, reason: str, code: str, words: str
) -> None:
    garage.answers += [RenderFailed(kind, reason)]
    error = await failure(browser)
    assert error.code == code
    assert words in error.message


async def test_a_closed_tunnel_is_the_guards_when_the_guard_says_so(browser: Browser, garage: Garage) -> None:
    garage.answers += [RenderFailed("net", "ERR_TUNNEL_CONNECTION_FAILED")] * 2
    passage = Passage("http://127.0.0.1:1", "u", "p")
    passage.note_blocked("http://before.test", "was refused before")
    assert isinstance(await failure(browser, passage=passage), CrawlFailed)

    class Blocking(Passage):
        looks = 0

        @property
        def blocked(self) -> list[tuple[str, str]]:
            self.looks += 1
            return [("a.test:443", "10.0.0.1 is not public")] * (self.looks > 1)

        @blocked.setter
        def blocked(self, value: object) -> None: ...

    error = await failure(browser, passage=Blocking("http://127.0.0.1:1", "u", "p"))
    assert isinstance(error, CrawlBlocked)
    assert error.details == {"reason": "10.0.0.1 is not public"}
