"""One page in the browser: loaded, waited for until it is quiet, and read, all before one deadline.

What reads the page runs in a world of its own, where the page's scripts cannot reach: Playwright's own way would have
them decide what `title` is. And whatever the page is at, a script without end above all, is stopped when time is up.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, CDPSession, Error, Page, Request, Response

from homelab_ai.crawling.egress.messages import BLOCKED, FAILED
from homelab_ai.crawling.engines import scripts
from homelab_ai.crawling.engines.interception import Ask, Interception
from homelab_ai.crawling.pages import Rendered, RenderFailed

_WORLD = "homelab-ai"
_MOST_SECONDS_OF_NOISE = 3.0
_RESERVE_SECONDS = 2.0
_RESERVE_PART = 0.3
"""Of the time that there is, what is kept for reading the page: the smaller of the two."""
_STOP_SECONDS = 0.5
_TALLEST_PX = 16_384
_SILENT_TYPES = frozenset({"image", "media", "font", "websocket", "eventsource", "ping", "texttrack", "manifest"})
"""Requests that are not waited for: they change no text, or never end."""
_BLOCKED, _FAILED = BLOCKED.lower(), FAILED.lower()  # as Playwright writes the names of headers
_NO_CONTENT = (204, 205)
_REDIRECTS = 300
_ABORTED = "net::ERR_ABORTED"
_NEWS_SECONDS = 0.5
"""After a navigation was aborted, within which the driver tells if it was by the end of the page's process."""
_NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
"""To what is under way when this machine gets or loses an address, with each container that starts for instance."""
_NO_WORDS = "net::ERR_HTTP_RESPONSE_CODE_FAILURE"
_NET_ERROR = re.compile(r"net::(ERR_\w+)")
_CRASH = re.compile(r"crashed|has been closed|Connection closed|Target closed", re.IGNORECASE)


@dataclass
class _Main:
    """The answers to the requests for the page itself."""

    response: Response | None = None
    failure: str | None = None
    empty: bool = False
    """An error without a word: the browser shows a page of its own then."""

    @property
    def was_there(self) -> bool:
        """Whether a page had come, before a script or the page itself asked for another."""
        return self.response is not None and not _REDIRECTS <= self.response.status < _REDIRECTS + 100


@dataclass
class Visit:
    """One page. `wish` is what the service asks for (`crawling.browser`), `end` the deadline on the loop's clock."""

    context: BrowserContext
    wish: Mapping[str, Any]
    end: float
    ask: Ask
    _frame: str = ""
    """What the protocol calls the page itself, wherever it is led."""
    _main: _Main = field(default_factory=_Main)
    _open: set[Request] = field(default_factory=set)
    _started: int = 0
    _notes: list[str] = field(default_factory=list)
    _complete: bool = True
    _disturbed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something of the page has failed that would not fail again."""
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def carry_out(self) -> Rendered:
        """Load the page and read it. Raises `RenderFailed`, `TimeoutError`, or Playwright's errors."""
        async with asyncio.timeout_at(self.end):
            await self.context.add_init_script(scripts.MUTE)
            page = await self.context.new_page()
            cdp = await self.context.new_cdp_session(page)
            crashed = asyncio.Event()
            page.on("crash", lambda _: crashed.set())
            self.context.on("page", lambda other: self._in_background(other.close()))  # a popup
            work = asyncio.create_task(self._load_and_read(page, cdp))
            crash = asyncio.create_task(crashed.wait())
            disturbance = asyncio.create_task(self._disturbed.wait())
            try:
                await asyncio.wait([work, crash, disturbance], return_when=asyncio.FIRST_COMPLETED)
                if self._disturbed.is_set():
                    raise RenderFailed("disturbed", "")
                if work.done():
                    return work.result()
                raise RenderFailed("crashed", "")
            except Error as error:
                if _CRASH.search(error.message):
                    raise RenderFailed("crashed", "") from error
                raise
            finally:
                for task in (ending := (work, crash, disturbance, *self._tasks)):
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)

    async def _load_and_read(self, page: Page, cdp: CDPSession) -> Rendered:
        self._listen(page)
        self._frame = (await cdp.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        await Interception(cdp, self.wish, self._frame, self.ask, self._in_background).start()
        left = self.end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self.end) as limit:
                await self._go(page)
                limit.reschedule(self.end - min(_RESERVE_SECONDS, _RESERVE_PART * left))
                if not self._main.empty:
                    await self._get_ready(page, cdp)
        except TimeoutError:
            self._cut("the page was not ready within its time")
            if not self._main.response:
                raise
            await self._stop(cdp)
        if self._main.empty and self._main.response:
            seen = {"html": "", "cut": False, "title": "", "url": self._main.response.url, "html5": False}
            return self._rendered(seen, b"")
        self._check_where_it_is(page)
        seen = await self._read(cdp)
        screenshot = await self._take_screenshot(page, cdp) if self.wish["screenshot"] else b""
        return self._rendered(seen, screenshot)

    async def _go(self, page: Page) -> None:
        """Open the page; return when its first bytes are there."""
        try:
            await page.goto(self.wish["url"], wait_until="commit", timeout=0)
        except Error as error:
            if _ABORTED in error.message:
                await asyncio.sleep(_NEWS_SECONDS)
            self._raise_why(error)

    async def _get_ready(self, page: Page, cdp: CDPSession) -> None:
        """Wait until there is nothing more to wait for."""
        await self._until(cdp, scripts.PARSED)
        if selector := self.wish["wait_for_selector"]:
            try:
                await page.wait_for_selector(f"css={selector}", state="attached", timeout=0)
            except Error as error:
                if "selector" in error.message.lower() and not _CRASH.search(error.message):
                    raise RenderFailed("selector", "") from error
                raise
            except asyncio.CancelledError:
                self._notes.append("nothing on it has matched wait_for_selector")
                raise
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS_OF_NOISE):
                if self.wish["screenshot"]:
                    await self._until(cdp, scripts.LOADED)
                await self._be_quiet(cdp)

    async def _until(self, cdp: CDPSession, script: str) -> None:
        """Wait for what the script promises, of whichever document is there by then.

        The driver's own waiting never ends for a document that starts a download while it is being parsed.
        """
        while not await self._evaluate(cdp, script):  # noqa: ASYNC110 - it is the page that knows, not we
            await asyncio.sleep(scripts.QUIET_MS / 3000)

    async def _be_quiet(self, cdp: CDPSession) -> None:
        while True:
            started = self._started
            quiet = not self._open and await self._evaluate(cdp, scripts.QUIET)
            if quiet and started == self._started and not self._open:
                return
            await asyncio.sleep(scripts.QUIET_MS / 3000)

    async def _read(self, cdp: CDPSession) -> dict[str, Any]:
        """Read the page, which may be on its way to another one just now."""
        script = scripts.READ.replace("MAX", str(self.wish["max_bytes"]))
        while (seen := await self._evaluate(cdp, script)) is None:
            self._complete = False
            await self._stop(cdp)
        return dict(seen)

    async def _take_screenshot(self, page: Page, cdp: CDPSession) -> bytes:
        full = self.wish["screenshot"] == "full_page"
        options: dict[str, Any] = {"type": "png", "timeout": 0, "animations": "allow", "caret": "initial"}
        if full:
            height = await self._evaluate(cdp, scripts.SIZE) or 0
            if height > _TALLEST_PX:
                self._notes.append(f"the screenshot ends after {_TALLEST_PX} of {int(height)} pixels")
            viewport = page.viewport_size or {"width": 1280, "height": 800}
            clip = {"x": 0, "y": 0, "width": viewport["width"], "height": min(max(height, 1), _TALLEST_PX)}
            options |= {"full_page": True, "clip": clip}
        try:
            async with asyncio.timeout_at(self.end - _STOP_SECONDS / 5):
                return await page.screenshot(**options)
        except (TimeoutError, Error) as error:
            if isinstance(error, Error) and _CRASH.search(error.message):
                raise
            self._cut("no screenshot could be taken of it within its time")
            return b""

    def _rendered(self, seen: dict[str, Any], screenshot: bytes) -> Rendered:
        html = ("<!DOCTYPE html>" * seen["html5"] + seen["html"]).encode("utf-8", "replace")
        most = self.wish["max_bytes"]
        if seen["cut"] or len(html) > most:
            html = html[:most]
            self._cut(f"only its first {most} bytes were read")
        facts = {
            "url": seen["url"],
            "status": self._main.response.status if self._main.response else 0,
            "title": seen["title"].encode("utf-8", "replace").decode(),  # a script may have put half a letter there
            "complete": self._complete,
            "notes": self._notes,
        }
        return Rendered(facts, html, screenshot)

    def _cut(self, why: str) -> None:
        self._complete = False
        self._notes.append(why)

    def _listen(self, page: Page) -> None:
        """Follow which requests are under way, and what has become of those for the page itself."""
        everything = bool(self.wish["screenshot"])

        def is_main(request: Request) -> bool:
            with contextlib.suppress(Error):
                return request.is_navigation_request() and request.frame == page.main_frame
            return False

        def started(request: Request) -> None:
            if everything or request.resource_type not in _SILENT_TYPES:
                self._started += 1
                self._open.add(request)

        def finished(request: Request) -> None:
            self._open.discard(request)

        def failed(request: Request) -> None:
            self._open.discard(request)
            if is_main(request):
                self._main.failure = request.failure
            if _NETWORK_CHANGED in (request.failure or "") and not self.wish["last_try"]:
                self._disturbed.set()

        def answered(response: Response) -> None:
            if is_main(response.request):
                self._main.response, self._main.failure = response, None

        page.on("request", started)
        page.on("requestfinished", finished)
        page.on("requestfailed", failed)
        page.on("response", answered)

    def _in_background(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(Error):
                await work

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, cdp: CDPSession) -> None:
        """Stop whatever the page is at: no script goes on, nothing is loaded any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.gather(
                    cdp.send("Emulation.setScriptExecutionDisabled", {"value": True}),
                    cdp.send("Runtime.terminateExecution"),
                    cdp.send("Page.stopLoading"),
                    return_exceptions=True,
                )

    async def _evaluate(self, cdp: CDPSession, script: str) -> Any:
        """What the script says in the world of ours; None when the page has gone meanwhile."""
        try:
            world = await cdp.send("Page.createIsolatedWorld", {"frameId": self._frame, "worldName": _WORLD})
            answer = await cdp.send(
                "Runtime.evaluate",
                {
                    "expression": script,
                    "contextId": world["executionContextId"],
                    "awaitPromise": True,
                    "returnByValue": True,
                },
            )
        except Error as error:
            if _CRASH.search(error.message):
                raise
            return None
        return answer["result"].get("value")

    def _check_where_it_is(self, page: Page) -> None:
        """Raise what the guard has said instead of the page, or a failure that the browser shows in its place."""
        self._check_the_guard()
        if page.url.startswith("chrome-error:"):
            found = _NET_ERROR.search(self._main.failure or "")
            raise RenderFailed("led away" if self._main.was_there else "net", found[1] if found else "")

    def _check_the_guard(self) -> None:
        response = self._main.response
        if not response or not response.url.startswith("http://"):  # within a tunnel, it is not the guard who speaks
            return
        if _BLOCKED in response.headers:
            raise RenderFailed("blocked", response.headers[_BLOCKED])
        if _FAILED in response.headers:
            raise RenderFailed("net", response.headers[_FAILED])

    def _raise_why(self, error: Error) -> None:
        """Raise what has become of a navigation that has failed."""
        self._check_the_guard()
        if _NO_WORDS in error.message:
            self._main.empty = True
            return
        if _ABORTED in error.message and self._main.response and self._main.response.status in _NO_CONTENT:
            raise RenderFailed("net", f"its server has sent no page (status {self._main.response.status})") from error
        if (_ABORTED in error.message and self._main.response) or "Download is starting" in error.message:
            raise RenderFailed("download", "") from error
        if found := _NET_ERROR.search(error.message):
            raise RenderFailed("net", found[1]) from error
        if "interrupted by another navigation" not in error.message:
            raise error
