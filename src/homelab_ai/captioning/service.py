"""`CaptionService`: what every route, job and command calls to have images described.

Plain Python, no HTTP. Images are decoded in a process of their own (`captioning.decoder`), pictures of many callers
share runs of the model (`models.batcher`), and each image has its own caption or its own error.
"""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from homelab_ai.captioning.decoder import Decoder, ImageRefused, Picture
from homelab_ai.errors import (
    InferenceFailed,
    InvalidRequest,
    PayloadTooLarge,
    ServiceError,
    UnsupportedMediaType,
)
from homelab_ai.models.batcher import ItemFailed
from homelab_ai.models.catalogue import Model
from homelab_ai.models.deadline import within
from homelab_ai.models.hosts.host import Answer
from homelab_ai.models.job_queue import Lane
from homelab_ai.models.protocols import Models
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings

ENGINE = "homelab_ai.captioning.engines.choice"
"""Dotted path of the engine module, for the model host."""

DEFAULT_NEW_TOKENS = 64

_WEIGHT_OF_AN_IMAGE = 600
"""In tokens of text, about: what a vision tower makes of it."""
_SIZE = struct.Struct("!II")


@dataclass(frozen=True)
class Image:
    """One image as it was sent, and what its sender calls it: `image`, or `batch[3]`."""

    data: bytes
    field: str


@dataclass(frozen=True)
class Wishes:
    """How captions are to be."""

    prompt: str | None = None
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    num_beams: int = 1


class CaptionService:
    """Describes images with whatever model is asked for."""

    def __init__(self, models: Models, decoder: Decoder, settings: Settings) -> None:
        self._models = models
        self._decoder = decoder
        self.follow(settings)
        self._timeout_seconds = settings.resources.request_timeout_seconds

    def follow(self, settings: Settings) -> None:
        """Go by these limits from the next request on."""
        self.max_images = settings.limits.max_images
        self._decoder.follow(settings.limits.max_image_megapixels)

    def choose(self, name: str | None) -> Model:
        """Return the captioning model that a request means. Raises as `Catalogue.choose`."""
        return self._models.catalogue.choose(name, "image_caption")

    async def caption(
        self,
        images: Sequence[Image | ServiceError],
        model: Model,
        wishes: Wishes,
        lane: Lane = "interactive",
        *,
        timing: Timing | None = None,
    ) -> list[str | ServiceError]:
        """Return one caption for each image, in their order, or the error that there is in its place.

        Where an image could not even be read, its error may be given instead, and is given back. `timing` is told
        where the time goes.

        Raises `InvalidRequest` for no image or too many, or a prompt that the model cannot follow; `ModelLoadFailed`,
        `InferenceFailed`, `RequestTimeout`, or `ResourceExhausted`.
        """
        if not images:
            raise InvalidRequest.at("image", "is missing; send at least one image")
        if len(images) > self.max_images:
            raise InvalidRequest.at(
                "batch", f"{len(images)} images are more than the {self.max_images} that one request may hold"
            )
        async with within(self._timeout_seconds, model, send_fewer="images"):
            return await self._caption(images, model, wishes, lane, timing or Timing())

    async def _caption(
        self, images: Sequence[Image | ServiceError], model: Model, wishes: Wishes, lane: Lane, timing: Timing
    ) -> list[str | ServiceError]:
        options = {"prompt": wishes.prompt, "max_new_tokens": wishes.max_new_tokens, "num_beams": wishes.num_beams}
        # Under the lease, which loads nothing yet: what is decoded is held in memory, so it counts as a request does.
        async with self._models.lease(model, timing) as lease:
            with lease.preparing():
                started = time.perf_counter()
                decoded = [await self._decoded(image) for image in images]
                timing.add("decode", time.perf_counter() - started)
            pictures = [each for each in decoded if isinstance(each, Picture)]
            captions: list[Any] = await lease.run(_FORMAT, options, pictures, lane=lane) if pictures else []
        if any(caption is _NO_PROMPTS for caption in captions):
            raise InvalidRequest.at(
                "prompt",
                f"{model.id!r} describes images and cannot follow prompts; leave it out, or use a vision-language "
                "model such as LLaVA",
            )
        left = iter(captions)
        results: list[str | ServiceError] = []
        for image, each in zip(images, decoded, strict=True):
            if isinstance(each, ServiceError):
                results.append(each)
            else:
                assert isinstance(image, Image)
                results.append(_result(next(left), image.field, model))
        return results

    async def _decoded(self, image: Image | ServiceError) -> Picture | ServiceError:
        if isinstance(image, ServiceError):
            return image
        if not image.data:
            return InvalidRequest.at(image.field, "is empty; send the content of an image file")
        try:
            return await self._decoder.decode(image.data)
        except ImageRefused as refusal:
            message, details = f"{image.field}: {refusal}", {"field": image.field}
            match refusal.kind:
                case "unknown":
                    return UnsupportedMediaType(message, details=details)
                case "too_large":
                    return PayloadTooLarge(message, details=details)
                case _:
                    return InvalidRequest.at(image.field, str(refusal))


def _result(caption: str | ItemFailed, field: str, model: Model) -> str | ServiceError:
    if isinstance(caption, ItemFailed):
        return InferenceFailed(
            f"Model {model.id!r} could not answer for {field} ({caption.failure}); the log says where",
            details={"model_id": model.id, "field": field},
        )
    return caption


_NO_PROMPTS = object()
"""In the place of a caption: the model cannot follow the prompt."""


class _Pictures:
    """Pictures to the engine as raw pixels, and a JSON list of captions back."""

    run_seconds = 2.0  # on a CPU, one may take most of a second, and the words of four hardly longer than those of one

    def pack(self, items: Sequence[Picture]) -> bytes:
        return b"".join(
            part for picture in items for part in (_SIZE.pack(picture.width, picture.height), picture.pixels)
        )

    def unpack(self, answer: Answer, count: int) -> list[Any]:
        if answer.header.get("refused") == "prompt":
            return [_NO_PROMPTS] * count
        captions: list[str] = orjson.loads(answer.body)
        assert len(captions) == count
        return captions

    def weight(self, item: Picture) -> int:  # noqa: ARG002 - one is like another
        return _WEIGHT_OF_AN_IMAGE


_FORMAT = _Pictures()
