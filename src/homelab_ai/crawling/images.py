"""`ImageFetcher`: what every route and job calls to have images fetched by their address.

Plain Python, no HTTP of ours. An image is fetched through the guard as a page is, but over plain HTTP alone, and as a
whole or not at all; whether it is one is for its decoder to say. Images have places of their own: they wait for servers
and do no work here, so that a batch of them keeps no page waiting, nor a page them.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from homelab_ai.crawling import http
from homelab_ai.crawling.egress.addresses import Network
from homelab_ai.crawling.passage import SWITCHED_OFF, blocked
from homelab_ai.crawling.watcher import Watcher
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.errors import RequestTimeout, ResourceExhausted, ServiceError
from homelab_ai.settings import Settings

PLACES = 16
"""Images that are fetched at once, for all requests together."""
PLACES_OF_A_REQUEST = 4

_MB = 1024 * 1024
_BESIDE_BYTES = _MB
"""What a passage may take beside the image: heads, redirects, and what TLS adds."""
_BESIDE_SECONDS = 1.0
"""By which a passage outlives its fetch, so that it is the fetch that says what was too slow."""
_ACCEPT = "image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.5"


@dataclass(frozen=True)
class _Errand:
    """What the images of one request have in common."""

    allow_networks: Sequence[Network]
    take: Callable[[int], None]
    seconds: float
    deadline: float
    """By the event loop's time."""
    places: asyncio.Semaphore


class ImageFetcher:
    """Fetches images. Every method belongs to the event loop's thread."""

    def __init__(self, way_out: WayOut, settings: Settings, watcher: Watcher | None = None) -> None:
        self._way_out = way_out
        self._watcher = watcher
        self._at_work = 0
        self._places = asyncio.Semaphore(PLACES)
        self._request_seconds = settings.resources.request_timeout_seconds
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next image on."""
        self._settings = settings.crawl
        self._max_bytes = min(int(settings.crawl.max_page_mb * _MB), settings.limits.max_body_bytes)
        self._most = settings.resources.max_concurrent_requests + settings.resources.max_queued_requests

    async def fetch(
        self, urls: Collection[str], *, allow_networks: Sequence[Network], take: Callable[[int], None]
    ) -> dict[str, bytes | ServiceError]:
        """Return what is at each of these addresses, which `addresses.checked` has returned, or why nothing is.

        `allow_networks` are those of whoever asks, beside those of the configuration. `take` is told how large each
        file is, and raises the error that stands in its place when the request may hold no more.

        Raises `ResourceExhausted` when too many requests wait for images. May be cancelled at any time.
        """
        if self._at_work >= self._most:
            raise ResourceExhausted("Too many requests wait for images to be fetched", retry_after_seconds=5)
        self._at_work += 1
        try:
            seconds = self._request_seconds
            deadline = asyncio.get_running_loop().time() + seconds
            errand = _Errand(allow_networks, take, seconds, deadline, asyncio.Semaphore(PLACES_OF_A_REQUEST))
            async with asyncio.TaskGroup() as group:
                fetching = {url: group.create_task(self._one(url, errand)) for url in dict.fromkeys(urls)}
            return {url: task.result() for url, task in fetching.items()}
        finally:
            self._at_work -= 1

    async def _one(self, url: str, errand: _Errand) -> bytes | ServiceError:
        try:
            data = await self._in_its_turn(url, errand)
            errand.take(len(data))
        except ServiceError as error:
            if self._watcher:
                self._watcher.crawl_failed(error.code)
            return error
        if self._watcher:
            self._watcher.crawled("image", "complete")
        return data

    async def _in_its_turn(self, url: str, errand: _Errand) -> bytes:
        if not self._settings.enabled:
            raise blocked(SWITCHED_OFF, "image")
        try:
            async with asyncio.timeout_at(errand.deadline), errand.places, self._places:
                return await self._fetched(url, errand.allow_networks)
        except TimeoutError:
            raise RequestTimeout(
                f"The image was not there within the {errand.seconds:g} s that all of a request have; send fewer",
                details={"timeout_seconds": errand.seconds},
            ) from None

    async def _fetched(self, url: str, allow_networks: Sequence[Network]) -> bytes:
        seconds, max_bytes = self._settings.timeout_seconds, self._max_bytes
        policy = self._way_out.policy(allow_networks)
        async with self._way_out.passage(
            policy, max_bytes=max_bytes + _BESIDE_BYTES, seconds=seconds + _BESIDE_SECONDS
        ) as passage:
            return await http.fetch_whole(
                url,
                passage,
                what="image",
                accept=_ACCEPT,
                user_agent=self._settings.user_agent,
                seconds=seconds,
                max_bytes=max_bytes,
            )
