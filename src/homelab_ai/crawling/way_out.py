"""`WayOut`: how whatever is fetched on a user's behalf leaves, by the settings in force: always through the guard."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Sequence

from homelab_ai.crawling.egress.addresses import Network
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.watcher import Watcher
from homelab_ai.errors import CrawlFailed
from homelab_ai.settings import Settings


class WayOut:
    """Opens passages through the guard. Every method belongs to the event loop's thread."""

    def __init__(self, guard: Guard, settings: Settings, watcher: Watcher | None = None) -> None:
        self._guard = guard
        self._watcher = watcher
        self._started: asyncio.Task[None] | None = None
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next passage on."""
        self._settings = settings.crawl

    def keep_from(self, port: int) -> None:
        """Let nobody reach this port of this machine, whatever is opened: the service listens there."""
        self._guard.keep_from(port)

    def policy(self, allow_networks: Sequence[Network] = ()) -> Policy:
        """What may be reached by somebody who has these networks beside those of the configuration."""
        settings = self._settings
        return Policy(
            allow_networks=(*settings.allow_networks, *allow_networks),
            allow_hosts=settings.allow_hosts,
            allow_ports=settings.allow_ports,
        )

    @contextlib.asynccontextmanager
    async def passage(self, policy: Policy, *, max_bytes: int, seconds: float) -> AsyncIterator[Passage]:
        """Let somebody out, as the policy says. The limits are those of `Guard.passage`.

        Raises `CrawlFailed` where the guard cannot be started.
        """
        await self._start()
        async with self._guard.passage(policy, max_bytes=max_bytes, seconds=seconds) as passage:
            try:
                yield passage
            finally:
                if passage.blocked and self._watcher:
                    self._watcher.crawl_blocked(len(passage.blocked))

    async def close(self) -> None:
        """End everything that is under way."""
        if self._started:
            await asyncio.wait([self._started])
        await self._guard.close()

    async def _start(self) -> None:
        if not self._started:  # when it is first needed: a service that fetches nothing opens no port
            # With a context of its own: what it logs later must not carry this request's id.
            self._started = asyncio.create_task(self._guard.start(), context=contextvars.Context())
        started = self._started
        try:
            await asyncio.shield(started)
        except OSError as error:
            if self._started is started:
                self._started = None
            raise CrawlFailed(f"The service's own way out could not be opened: {error.strerror}") from error
