"""The decoding of images: one child process for all, started with the first image and gone when none has come a while.

An image can crash the libraries that read it. Then the process is replaced and the image tried once more, alone in
being blamed: others that waited for the same process are tried again without that.
"""

import asyncio
import contextvars
import logging
from dataclasses import dataclass, field
from typing import Literal

from homelab_ai.errors import ModelLoadFailed
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.hosts.host import Host, HostDied, HostLoadFailed, HostPlan, RunFailed, StartHost

log = logging.getLogger(__name__)

ENGINE = "homelab_ai.captioning.engines.decoder"
"""Dotted path of the engine module."""

_SECONDS_FOR_ONE_IMAGE = 20.0
_IDLE_SECONDS = 60.0
_DEATHS = 2
"""Under an image, after which it is refused."""
_HOSTS_FOR_ONE_IMAGE = 5


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    width: int
    height: int
    pixels: bytes = field(repr=False)
    """RGB, three bytes a pixel, row by row."""


class ImageRefused(Exception):
    """The image cannot be used. The text says why: the end of a sentence that begins with the name of its field."""

    def __init__(self, kind: Literal["unknown", "damaged", "too_large"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Decoder:
    """Turns image files into pictures. Every method belongs to the event loop's thread."""

    def __init__(self, start_host: StartHost, max_megapixels: float, clock: Clock) -> None:
        self._start_host = start_host
        self._plan = _plan(max_megapixels)
        self._clock = clock
        self._host: Host | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._timer: Timer | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    def follow(self, max_megapixels: float) -> None:
        """Decode images up to this size from now on."""
        plan = _plan(max_megapixels)
        if plan != self._plan:
            self._plan = plan
            self._stop()  # an image that it is at is decoded once more, by the next one

    async def decode(self, data: bytes) -> Picture:
        """Return the picture in an image file. May be cancelled at any time.

        Raises `ImageRefused`, or `ModelLoadFailed` when images cannot be decoded here at all.
        """
        self._waiting += 1
        try:
            return await self._decode(data)
        finally:
            self._waiting -= 1
            self._set_timer()

    async def close(self) -> None:
        """End the process."""
        self._stop()
        while self._stopping:
            await asyncio.wait(self._stopping)

    async def _decode(self, data: bytes) -> Picture:
        deaths = 0
        for _ in range(_HOSTS_FOR_ONE_IMAGE):
            try:
                host = await self._running_host()
                answer = await host.run({}, data)
            except HostDied as death:
                deaths += death.run_had_started
                if deaths >= _DEATHS:
                    break
                continue
            except RunFailed as failure:
                log.warning("an image could not be decoded: %s\n%s", failure, failure.traceback)
                raise ImageRefused("damaged", "is damaged: it cannot be decoded") from failure
            header = answer.header
            if "refused" in header:
                raise ImageRefused(header["refused"], header["reason"])
            return Picture(header["width"], header["height"], answer.body)
        raise ImageRefused("damaged", "is damaged in a way that ends the program which decodes it")

    async def _running_host(self) -> Host:
        async with self._starting:  # one start, however many wait for it
            if not (self._host and self._host.alive):
                try:
                    self._host = await self._start_host(self._plan)
                except HostLoadFailed as failure:
                    raise ModelLoadFailed(f"Images cannot be decoded: {failure}") from failure
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


def _plan(max_megapixels: float) -> HostPlan:
    return HostPlan(
        model_id="(image decoder)",
        engine=ENGINE,
        options={"max_pixels": int(max_megapixels * 1_000_000)},
        run_timeout_seconds=_SECONDS_FOR_ONE_IMAGE,
    )
