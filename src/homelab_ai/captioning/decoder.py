"""The decoding of images, in a child process: an image can crash the libraries that read it."""

import logging
from dataclasses import dataclass, field
from typing import Literal

from homelab_ai.errors import ModelLoadFailed
from homelab_ai.models.clock import Clock
from homelab_ai.models.hosts.host import HostLoadFailed, HostPlan, RunFailed, StartHost
from homelab_ai.models.hosts.on_demand import EndsItsHost, OnDemandHost

log = logging.getLogger(__name__)

ENGINE = "homelab_ai.captioning.engines.decoder"
"""Dotted path of the engine module."""

_SECONDS_FOR_ONE_IMAGE = 20.0


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
        self._process = OnDemandHost(start_host, _plan(max_megapixels), clock)

    def follow(self, max_megapixels: float) -> None:
        """Decode images up to this size from now on."""
        self._process.follow(_plan(max_megapixels))

    async def decode(self, data: bytes) -> Picture:
        """Return the picture in an image file. May be cancelled at any time.

        Raises `ImageRefused`, or `ModelLoadFailed` when images cannot be decoded here at all.
        """
        try:
            answer = await self._process.run({}, data)
        except HostLoadFailed as failure:
            raise ModelLoadFailed(f"Images cannot be decoded: {failure}") from failure
        except EndsItsHost as failure:
            raise ImageRefused("damaged", "is damaged in a way that ends the program which decodes it") from failure
        except RunFailed as failure:
            log.warning("an image could not be decoded: %s\n%s", failure, failure.traceback)
            raise ImageRefused("damaged", "is damaged: it cannot be decoded") from failure
        header = answer.header
        if "refused" in header:
            raise ImageRefused(header["refused"], header["reason"])
        return Picture(header["width"], header["height"], answer.body)

    async def close(self) -> None:
        """End the process."""
        await self._process.close()


def _plan(max_megapixels: float) -> HostPlan:
    return HostPlan(
        model_id="(image decoder)",
        engine=ENGINE,
        options={"max_pixels": int(max_megapixels * 1_000_000)},
        run_timeout_seconds=_SECONDS_FOR_ONE_IMAGE,
    )
