"""Pages as a browser shows them: one browser for all, started with the first page and gone when none has come a while.

Each page has a context, and proxy credentials, of its own. A browser that dies under a page is replaced, and the page
tried once more; so it is when this machine's network changes, to which Chromium sacrifices all requests. After so many
pages the browser is replaced too, once those that it is at are done.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NoReturn

import httpx2

from homelab_ai.crawling.browser_process import BrowserDied, BrowserProcess, BrowserStartFailed
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.pages import Fetched, Rendered, RenderFailed
from homelab_ai.crawling.passage import MayGo, Watch, blocked, failed
from homelab_ai.errors import CrawlFailed, InvalidRequest, RequestTimeout, UnsupportedMediaType
from homelab_ai.models.claims import Claim, MakeClaim, Room, uncounted
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.memory import Footprint
from homelab_ai.settings import CrawlSettings

log = logging.getLogger(__name__)

CANNOT_RENDER = "Pages cannot be rendered here"
"""What callers are told first where there is no browser, or it does not start."""

_PAGES_AT_ONCE = 4
_PAGES_OF_ONE_BROWSER = 200
_GRACE_SECONDS = 3.0
"""After its deadline, within which the browser has to let go of a page; one that does not is taken for hung."""
_SECONDS_PER_MINUTE = 60
_TAKES = Footprint(300 * 1024**2)
"""What it takes with a page in it, until it has been measured."""

_NET_ERRORS = {
    "ERR_NAME_NOT_RESOLVED": "its server was not found",
    "ERR_TUNNEL_CONNECTION_FAILED": "its server was not found, or refuses connections",
    "ERR_CONNECTION_REFUSED": "its server refuses connections",
    "ERR_PROXY_CONNECTION_FAILED": "the service's own way out is closed",
    "ERR_TOO_MANY_REDIRECTS": "it redirects without end",
    "ERR_EMPTY_RESPONSE": "its server has sent nothing",
    "ERR_INVALID_RESPONSE": "its server does not speak HTTP",
    "ERR_NETWORK_CHANGED": "this machine's network has changed meanwhile, twice",
    "ERR_TIMED_OUT": "its server did not answer in time",
    "ERR_UNSAFE_PORT": "browsers do not connect to this port",
    "ERR_BLOCKED_BY_CLIENT": "the browser does not load it",
}


class LedAway(Exception):
    """The page was there, but a script of it has led to one that cannot be loaded. The text says, as an error, why."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of the browser for one page."""

    seconds: float
    """Until the answer, waiting for a place included."""
    max_bytes: int
    """Of HTML."""
    screenshot: bool | Literal["full_page"] = False
    wait_for_selector: str | None = None
    """CSS: the page is not ready before something matches."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """For the page's own origin."""
    user_agent: str | None = None
    """None: the browser's own."""
    may_go: MayGo | None = None


StartBrowser = Callable[[dict[str, Any]], Awaitable[BrowserProcess]]


class Browser:
    """Renders pages. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        settings: CrawlSettings,
        clock: Clock,
        start: StartBrowser = BrowserProcess.start,
        *,
        room: Room | None = None,
    ) -> None:
        """Make one that is not started. In the `room`, its processes are counted."""
        self._settings = settings
        self._clock = clock
        self._start = start
        self._make_claim: MakeClaim = partial(room.claim, "The browser", _TAKES) if room else uncounted
        self._claim: Claim | None = None
        self._process: BrowserProcess | None = None
        self._starting: asyncio.Task[BrowserProcess] | None = None
        self._places = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._wanted = 0
        self._timer: Timer | None = None
        self._stopping: dict[asyncio.Task[None], BrowserProcess] = {}
        self.sandboxed: bool | None = None
        """Whether pages are kept in Chromium's sandbox; None before the first browser has started."""
        self.version: str | None = None
        """Of Chromium, once it has started."""

    def follow(self, settings: CrawlSettings) -> None:
        """Go by these settings from now on."""
        self._settings = settings
        self._set_timer()

    @property
    def running(self) -> bool:
        """Whether there is a browser at the moment."""
        return bool(self._process and self._process.alive) or bool(self._starting)

    @property
    def at_work(self) -> int:
        """How many pages are being rendered or wait for that."""
        return self._wanted

    @property
    def memory_bytes(self) -> int:
        """What all its processes take, as last measured; 0 where that is not counted."""
        return self._claim.held.memory_bytes if self.running and self._claim else 0

    async def render(self, url: str, passage: Passage, wishes: Wishes) -> Fetched:
        """Render a page. What is there after `wishes.seconds` is returned as incomplete.

        Raises `CrawlBlocked`, `CrawlFailed`, `LedAway`, `UnsupportedMediaType` for what is no page, `InvalidRequest`
        for a selector that is none, `RequestTimeout` when there is nothing by then, or what `wishes.may_go` raises.
        May be cancelled at any time.
        """
        watch = Watch(passage)
        self._wanted += 1
        try:
            page = await self._rendered(url, passage, wishes)
        except RenderFailed as failure:
            _raise_in_words(failure, watch, wishes)
        finally:
            self._wanted -= 1
            self._set_timer()
            if self._claim:
                self._claim.worked()
        facts = page.facts
        return Fetched(
            url=facts["url"],
            status=facts["status"],
            content_type="text/html; charset=utf-8",
            body=page.html,
            complete=facts["complete"],
            title=facts["title"],
            screenshot=page.screenshot or None,
            notes=tuple(facts["notes"]),
        )

    async def close(self) -> None:
        """End the browser, whatever it is at."""
        self._cancel_timer()
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        self._retire()
        await asyncio.gather(*(process.stop() for process in self._stopping.values()))
        while self._stopping:
            await asyncio.wait(self._stopping)

    async def _rendered(self, url: str, passage: Passage, wishes: Wishes) -> Rendered:
        loop = asyncio.get_running_loop()
        end = loop.time() + wishes.seconds
        at_it: BrowserProcess | None = None
        try:
            async with asyncio.timeout_at(end) as waiting, self._places:
                for last_try in (False, True):
                    process = await self._ready_process()
                    waiting.reschedule(end + _GRACE_SECONDS)
                    at_it = process
                    try:
                        wish = _wish(url, passage, wishes, end - loop.time(), last_try=last_try)
                        return await process.render(wish, wishes.may_go)
                    except BrowserDied:
                        log.warning("the browser has died under a page")
                    except RenderFailed as failure:
                        if failure.kind not in {"crashed", "disturbed"}:
                            raise
                    at_it = None
                    waiting.reschedule(end)
                raise CrawlFailed("The page ends the browser, a fresh one included")
        except TimeoutError:
            if at_it:
                log.warning("the browser has not let go of a page in time and is ended")
                at_it.kill()
            raise _timeout(wishes) from None

    async def _ready_process(self) -> BrowserProcess:
        """The running browser, or a fresh one: one start, however many wait for it."""
        while not (self._process and self._process.alive):
            if not self._starting:
                self._retire()
                self._starting = asyncio.create_task(self._start_one(), context=contextvars.Context())
            starting = self._starting
            try:
                await asyncio.shield(starting)
            except BrowserStartFailed as failure:
                raise CrawlFailed(f"{CANNOT_RENDER}: {failure}") from failure
            except asyncio.CancelledError:
                if starting.cancelled():  # the service ends
                    raise CrawlFailed("Pages are not rendered any more: the service is stopping") from None
                raise
        process = self._process
        if process.pages + 1 >= _PAGES_OF_ONE_BROWSER:
            self._process = None
            self._stop(process)  # when it has done what it is at, this page included
        return process

    async def _start_one(self) -> BrowserProcess:
        try:
            claim = await self._make_claim(self._leave)
            try:
                self._process = process = await self._start({"sandbox": self.sandboxed})
            except BaseException:
                claim.end()
                raise
            claim.hold(process)
            self._claim = claim
        finally:
            self._starting = None
        if self.sandboxed is None and not process.described["sandboxed"]:
            log.warning("the browser runs without its sandbox: this system, or the user root, does not allow it")
        self.sandboxed, self.version = process.described["sandboxed"], process.described["version"]
        return process

    def _set_timer(self) -> None:
        self._cancel_timer()
        minutes = self._settings.browser_idle_minutes
        if minutes >= 0 and not self._wanted:
            self._timer = self._clock.call_later(minutes * _SECONDS_PER_MINUTE, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._wanted:
            self._retire()

    def _leave(self) -> bool:
        if self._wanted:
            return False
        self._cancel_timer()
        self._retire()
        return True

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _retire(self) -> None:
        if self._process:
            process, self._process = self._process, None
            self._stop(process)

    def _stop(self, process: BrowserProcess) -> None:
        async def stop() -> None:
            await process.idle()
            await process.stop()

        task = asyncio.create_task(stop(), context=contextvars.Context())
        self._stopping[task] = process
        task.add_done_callback(self._stopping.pop)


def _wish(url: str, passage: Passage, wishes: Wishes, seconds: float, *, last_try: bool) -> dict[str, Any]:
    """What `engines.visit` goes by."""
    return {
        "url": url,
        "origin": _origin(url),
        "proxy": passage.proxy_url,
        "username": passage.username,
        "password": passage.password,
        "seconds": seconds,
        "last_try": last_try,
        "max_bytes": wishes.max_bytes,
        "screenshot": wishes.screenshot,
        "wait_for_selector": wishes.wait_for_selector,
        "headers": dict(wishes.headers),
        "user_agent": wishes.user_agent,
        "asks": wishes.may_go is not None,
    }


def _origin(url: str) -> str:
    """As the browser writes it: lower case, punycode, and no port where it is the scheme's own."""
    parsed = httpx2.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _raise_in_words(failure: RenderFailed, watch: Watch, wishes: Wishes) -> NoReturn:
    reason = str(failure)
    match failure.kind:
        case "timeout":
            raise _timeout(wishes) from None
        case "blocked":
            raise blocked(reason) from None
        case "selector":
            raise InvalidRequest.at("wait_for_selector", "is no CSS selector") from None
        case "download":
            raise UnsupportedMediaType("The address leads to a file to be downloaded, not to a page") from None
        case "net" if "TUNNEL" in reason and (said := watch.refusal() or watch.failure()):
            raise said from None
        case "net" if reason.startswith(("ERR_CERT", "ERR_SSL", "ERR_BAD_SSL")):
            raise CrawlFailed(f"The page's server cannot be trusted: its TLS is refused ({reason})") from None
        case "led away":
            raise LedAway(f"a script of it leads to another page, which cannot be loaded ({reason})") from None
        case "net":
            words = _NET_ERRORS.get(reason, reason if " " in reason else f"its server broke off ({reason})")
            raise failed(words) from None
        case _:
            log.warning("a page could not be rendered: %s", reason)
            raise CrawlFailed("The browser could not render the page") from None


def _timeout(wishes: Wishes) -> RequestTimeout:
    return RequestTimeout(
        f"The page was not there within {wishes.seconds:g} s; give it more time with timeout_ms",
        details={"timeout_seconds": wishes.seconds},
    )
