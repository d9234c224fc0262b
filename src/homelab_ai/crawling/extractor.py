"""Extraction, in a child process: a page can crash the libraries that read it."""

import asyncio
import logging
from collections.abc import Collection
from functools import partial

import orjson

from homelab_ai.crawling.extraction.extracted import Extracted, ExtractionFailed, NotReadable
from homelab_ai.crawling.pages import Fetched
from homelab_ai.errors import ModelLoadFailed
from homelab_ai.models import cores
from homelab_ai.models.claims import Room, uncounted
from homelab_ai.models.clock import Clock
from homelab_ai.models.hosts.host import Host, HostLoadFailed, HostPlan, RunFailed, StartHost
from homelab_ai.models.hosts.on_demand import EndsItsHost, OnDemandHost
from homelab_ai.models.memory import Footprint

log = logging.getLogger(__name__)

ENGINE = "homelab_ai.crawling.engines.extract"
"""Dotted path of the engine module."""

_SECONDS_FOR_ONE_PAGE = 10.0
_MOST_PROCESSES = 4
_TAKES = Footprint(150 * 1024**2)
"""What one takes, until it has been measured."""


class Extractor:
    """Turns pages into text, one on each core. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        start_host: StartHost,
        clock: Clock,
        *,
        room: Room | None = None,
        processes: int | None = None,
        seconds_for_one_page: float = _SECONDS_FOR_ONE_PAGE,
    ) -> None:
        """Make one that has not started anything. In the `room`, its processes are counted."""
        plan = HostPlan(
            model_id="(page extractor)", engine=ENGINE, options={}, run_timeout_seconds=seconds_for_one_page
        )
        claim = partial(room.claim, "What reads pages", _TAKES) if room else uncounted
        count = processes or min(cores.usable(), _MOST_PROCESSES)
        self._processes = [OnDemandHost(start_host, plan, clock, claim) for _ in range(count)]

    async def extract(self, fetched: Fetched, wishes: Collection[str]) -> Extracted:
        """Return what is in a page. May be cancelled at any time.

        `wishes` holds which of `markdown`, `html`, `links` and `metadata` are wanted; those that are not are empty.
        Raises `NotReadable`, `ExtractionFailed`, or `ModelLoadFailed` when pages cannot be read here at all.
        """
        options = {"url": fetched.url, "content_type": fetched.content_type, "wishes": sorted(wishes)}
        try:
            answer = await self._least_busy().run(options, fetched.body)
        except HostLoadFailed as failure:
            raise ModelLoadFailed(f"Pages cannot be read: {failure}") from failure
        except EndsItsHost as failure:
            raise ExtractionFailed("ends the program that reads it, or takes it too long") from failure
        except RunFailed as failure:
            log.warning("a page could not be read: %s\n%s", failure, failure.traceback)
            raise ExtractionFailed("cannot be read") from failure
        if "refused" in answer.header:
            refusal = {"not_readable": NotReadable, "failed": ExtractionFailed}[answer.header["refused"]]
            raise refusal(answer.header["reason"])
        found = orjson.loads(answer.body)
        found["links"] = [(address, text) for address, text in found["links"]]
        return Extracted(**found)

    @property
    def hosts(self) -> list[Host]:
        """The processes that there are now."""
        return [process.current for process in self._processes if process.current]

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(process.close() for process in self._processes))

    def _least_busy(self) -> OnDemandHost:
        """The first of several, so that no more are started than there is work for."""
        return min(self._processes, key=lambda process: process.waiting)
