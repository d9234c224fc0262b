"""`CrawlService`: what every route, job and command calls to have a web page read.

Plain Python, no HTTP. A page is fetched over plain HTTP or shown by a browser, both through the guard (`egress`), and
read in a process of its own (`extractor`). One deadline is for all of it: what there is by then is returned.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from homelab_ai.crawling import http
from homelab_ai.crawling.addresses import check_headers, checked
from homelab_ai.crawling.browser import Browser, LedAway, Wishes
from homelab_ai.crawling.egress.addresses import Network
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.extraction.extracted import Extracted, ExtractionFailed, NotReadable
from homelab_ai.crawling.extractor import Extractor
from homelab_ai.crawling.pages import Fetched
from homelab_ai.crawling.passage import SWITCHED_OFF, failed
from homelab_ai.crawling.politeness import Politeness
from homelab_ai.crawling.rendering import is_html, needs_browser
from homelab_ai.crawling.watcher import Watcher
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.errors import (
    CrawlBlocked,
    CrawlFailed,
    InvalidRequest,
    RequestTimeout,
    ResourceExhausted,
    ServiceError,
    UnsupportedMediaType,
)
from homelab_ai.settings import Settings

Format = Literal["text", "markdown", "html", "links", "metadata"]

_MB = 1024 * 1024
_FOR_READING_SECONDS = 2.0
"""Of the time for a page, left for reading what was fetched; less where there is less."""
_LEAST_SECONDS = 1.0
"""For reading, where fetching has taken all of the time."""
_LEAST_PART = 0.25
"""Of the time for a page, to be left when others have had their turn; with less, it is not even begun."""
_BLOCKED_SHOWN = 50
_DENIED = frozenset({401, 403, 406, 429, 503})
"""Statuses with which servers keep out what does not look like a browser."""


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    url: str
    wait_for_js: bool | Literal["auto"] = "auto"
    screenshot: bool | Literal["full_page"] = False
    wait_for_selector: str | None = None
    timeout_seconds: float | None = None
    """None: as the configuration says, which is also the most."""
    headers: Mapping[str, str] = field(default_factory=dict)
    formats: Collection[Format] = ()
    """Beside the text, which is always there."""
    allow_networks: Sequence[Network] = ()
    """Those of whoever asks, beside those of the configuration."""


@dataclass(frozen=True)
class Page:
    """A page that was read."""

    url: str
    """After redirects."""
    status: int
    content_type: str
    title: str
    extracted: Extracted
    screenshot: bytes | None
    """PNG."""
    rendered: bool
    """Whether a browser has shown it."""
    complete: bool
    """False where the deadline or the limit of bytes came first."""
    blocked: list[tuple[str, str]]
    """What of it the guard has refused, and why."""
    notes: list[str]
    fetch_seconds: float


class CrawlService:
    """Reads web pages. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        way_out: WayOut,
        browser: Browser,
        extractor: Extractor,
        politeness: Politeness,
        settings: Settings,
        *,
        watcher: Watcher | None = None,
    ) -> None:
        self.browser = browser
        self._way_out = way_out
        self._politeness = politeness
        self._extractor = extractor
        self._watcher = watcher
        self._at_work = 0
        self._places = asyncio.Semaphore(settings.resources.max_concurrent_requests)
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next page on. How many are read at once takes a restart."""
        self._settings = settings.crawl
        self._most = settings.resources.max_concurrent_requests + settings.resources.max_queued_requests
        self.browser.follow(settings.crawl)
        self._politeness.follow(settings.crawl)

    async def crawl(self, order: Order) -> Page:
        """Read a page.

        Raises `InvalidRequest`, `CrawlBlocked`, `CrawlFailed`, `UnsupportedMediaType`, `RequestTimeout`,
        `ResourceExhausted`, or `ModelLoadFailed` where pages cannot be read here at all. May be cancelled at any time.
        """
        self._at_work += 1
        try:
            url = checked(order.url)
            check_headers(order.headers)
            _check_goes_together(order)
            if not self._settings.enabled:
                raise CrawlBlocked(f"Pages are not read here: {SWITCHED_OFF}", details={"reason": SWITCHED_OFF})
            if self._at_work > self._most:
                raise ResourceExhausted("Too many pages are being read or wait for that", retry_after_seconds=5)
            page = await self._crawl(url, order)
        except ServiceError as error:
            if self._watcher:
                self._watcher.crawl_failed(error.code)
            raise
        finally:
            self._at_work -= 1
        if self._watcher:
            self._watcher.crawled("browser" if page.rendered else "http", "complete" if page.complete else "incomplete")
        return page

    async def close(self) -> None:
        """End the browser and the reader."""
        try:
            await self.browser.close()
        finally:
            await self._extractor.close()

    async def _crawl(self, url: str, order: Order) -> Page:
        most = self._settings.timeout_seconds
        seconds = min(order.timeout_seconds or most, most)
        started = time.monotonic()
        deadline = started + seconds

        def left() -> float:
            remaining = deadline - time.monotonic()
            return max(0.05, remaining - min(_FOR_READING_SECONDS, seconds / 4))

        policy = self._way_out.policy(order.allow_networks)
        latest = deadline - seconds * _LEAST_PART
        async with self._politeness.turn(url, policy, latest - started), self._place(latest - time.monotonic()):
            max_bytes = int(self._settings.max_page_mb * _MB)
            async with self._way_out.passage(policy, max_bytes=max_bytes, seconds=left()) as passage:
                fetched, rendered = await self._fetched(url, order, passage, left)
                fetch_seconds = time.monotonic() - started
                if passage.spent and fetched.complete:
                    notes = (*fetched.notes, "loads more, or takes longer, than it may (crawl.max_page_mb)")
                    fetched = replace(fetched, complete=False, notes=notes)
            extracted = await self._extracted(fetched, order.formats, max(_LEAST_SECONDS, deadline - time.monotonic()))
        blocked = list(dict.fromkeys(passage.blocked))[:_BLOCKED_SHOWN]
        return Page(
            url=fetched.url,
            status=fetched.status,
            content_type=fetched.content_type,
            title=fetched.title or extracted.title,
            extracted=extracted,
            screenshot=fetched.screenshot,
            rendered=rendered,
            complete=fetched.complete,
            blocked=blocked,
            notes=[*fetched.notes, *extracted.notes],
            fetch_seconds=fetch_seconds,
        )

    @contextlib.asynccontextmanager
    async def _place(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise ResourceExhausted(
                "Other pages come first, and leave this one too little of its time", retry_after_seconds=5
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _fetched(
        self, url: str, order: Order, passage: Passage, left: Callable[[], float]
    ) -> tuple[Fetched, bool]:
        """Return the page, and whether a browser has shown it."""
        wants_more = bool(order.screenshot or order.wait_for_selector)
        if order.wait_for_js is True or wants_more:
            try:
                return await self._rendered(url, order, passage, left()), True
            except LedAway as reason:
                if wants_more:
                    raise failed(str(reason)) from reason
                plain = await self._plain(url, order, passage, left())  # what its server sends is better than nothing
                return replace(plain, complete=False, notes=(*plain.notes, str(reason))), False
        plain = await self._plain(url, order, passage, left())
        if order.wait_for_js is False or not await self._wants_browser(plain):
            return plain, False
        try:
            return await self._rendered(url, order, passage, left()), True
        except (ServiceError, LedAway) as reason:
            notes = (*plain.notes, f"might say more in a browser, but: {reason}")
            return replace(plain, notes=notes), False

    async def _plain(self, url: str, order: Order, passage: Passage, seconds: float) -> Fetched:
        return await http.fetch(
            url,
            passage,
            headers=order.headers,
            user_agent=self._settings.user_agent,
            seconds=seconds,
            max_bytes=int(self._settings.max_page_mb * _MB),
            may_go=self._politeness.may_go(passage),
        )

    @staticmethod
    async def _wants_browser(plain: Fetched) -> bool:
        # Tens of milliseconds for a large page, which others are not to wait for.
        return is_html(plain) and (plain.status in _DENIED or await asyncio.to_thread(needs_browser, plain))

    async def _rendered(self, url: str, order: Order, passage: Passage, seconds: float) -> Fetched:
        wishes = Wishes(
            seconds=seconds,
            max_bytes=int(self._settings.max_page_mb * _MB),
            screenshot=order.screenshot,
            wait_for_selector=order.wait_for_selector,
            headers=order.headers,
            user_agent=self._settings.user_agent,
            may_go=self._politeness.may_go(passage),
        )
        return await self.browser.render(url, passage, wishes)

    async def _extracted(self, fetched: Fetched, formats: Collection[str], seconds: float) -> Extracted:
        try:
            async with asyncio.timeout(seconds):
                return await self._extractor.extract(fetched, {"markdown", "html", "links", "metadata"} & set(formats))
        except TimeoutError:
            raise RequestTimeout(
                "The page was fetched, but not read within its time; give it more with timeout_ms",
                details={"timeout_seconds": round(seconds, 1)},
            ) from None
        except NotReadable as error:
            raise UnsupportedMediaType(
                f"The page {error}", details={"content_type": fetched.content_type[:100]}
            ) from error
        except ExtractionFailed as error:
            raise CrawlFailed(f"The page {error}") from error


def _check_goes_together(order: Order) -> None:
    if order.wait_for_js is False:
        for name, wish in (("screenshot", order.screenshot), ("wait_for_selector", order.wait_for_selector)):
            if wish:
                raise InvalidRequest.at(name, "takes a browser; leave wait_for_js out, or set it to true")
