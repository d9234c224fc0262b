"""Extraction: one child process for all pages, started with the first and gone when none has come for a while.

A page can crash the libraries that read it. Then the process is replaced and the page tried once more, alone in being
blamed: others that waited for the same process are tried again without that. One that hung it is not tried again.
"""

import asyncio
import contextvars
import logging
from collections.abc import Collection

import orjson

from homelab_ai.crawling.extraction.extracted import Extracted, ExtractionFailed, NotReadable
from homelab_ai.crawling.pages import Fetched
from homelab_ai.errors import ModelLoadFailed
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.hosts.host import Host, HostDied, HostLoadFailed, HostPlan, RunFailed, StartHost

log = logging.getLogger(__name__)

ENGINE = "homelab_ai.crawling.engines.extract"
"""Dotted path of the engine module."""

_SECONDS_FOR_ONE_PAGE = 10.0
_IDLE_SECONDS = 60.0
_DEATHS = 2
"""Under a page, after which it is refused."""


class Extractor:
    """Turns pages into text. Every method belongs to the event loop's thread."""

    def __init__(
        self, start_host: StartHost, clock: Clock, *, seconds_for_one_page: float = _SECONDS_FOR_ONE_PAGE
    ) -> None:
        self._start_host = start_host
        self._clock = clock
        self._plan = HostPlan(
            model_id="(page extractor)", engine=ENGINE, options={}, run_timeout_seconds=seconds_for_one_page
        )
        self._host: Host | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._timer: Timer | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def extract(self, fetched: Fetched, wishes: Collection[str]) -> Extracted:
        """Return what is in a page. May be cancelled at any time.

        `wishes` holds which of `markdown`, `links` and `metadata` are wanted; those that are not are empty. Raises
        `NotReadable`, `ExtractionFailed`, or `ModelLoadFailed` when pages cannot be read here at all.
        """
        self._waiting += 1
        try:
            return await self._extract(fetched, wishes)
        finally:
            self._waiting -= 1
            self._set_timer()

    @property
    def host(self) -> Host | None:
        """The process that there is now, for whoever counts memory."""
        return self._host if self._host and self._host.alive else None

    async def close(self) -> None:
        """End the process."""
        self._stop()
        while self._stopping:
            await asyncio.wait(self._stopping)

    async def _extract(self, fetched: Fetched, wishes: Collection[str]) -> Extracted:
        options = {"url": fetched.url, "content_type": fetched.content_type, "wishes": sorted(wishes)}
        deaths = 0
        while True:  # others may end the process any number of times: it is the caller's deadline that counts
            try:
                host = await self._running_host()
                answer = await host.run(options, fetched.body)
            except HostDied as death:
                deaths += death.run_had_started
                if deaths >= _DEATHS or (death.run_had_started and death.hung):
                    raise ExtractionFailed("ends the program that reads it, or takes it too long") from death
                continue
            except RunFailed as failure:
                log.warning("a page could not be read: %s\n%s", failure, failure.traceback)
                raise ExtractionFailed("cannot be read") from failure
            if "refused" in answer.header:
                refusal = {"not_readable": NotReadable, "failed": ExtractionFailed}[answer.header["refused"]]
                raise refusal(answer.header["reason"])
            found = orjson.loads(answer.body)
            found["links"] = [(address, text) for address, text in found["links"]]
            return Extracted(**found)

    async def _running_host(self) -> Host:
        async with self._starting:  # one start, however many wait for it
            if not (self._host and self._host.alive):
                try:
                    self._host = await self._start_host(self._plan)
                except HostLoadFailed as failure:
                    raise ModelLoadFailed(f"Pages cannot be read: {failure}") from failure
            return self._host

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._clock.call_later(_IDLE_SECONDS, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._waiting:
            self._stop()

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._host:
            stop = asyncio.create_task(self._host.stop(), context=contextvars.Context())
            self._stopping.add(stop)
            stop.add_done_callback(self._stopping.discard)
            self._host = None
