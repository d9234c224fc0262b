"""Images as requests give them in text: in base64, bare or as data URIs, or by their address.

What is wrong with an image is an error in its place: it must not spoil the others of a batch.
"""

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request

from homelab_ai.api.access import check_scope
from homelab_ai.api.context import context_of
from homelab_ai.api.reading import take_as_body
from homelab_ai.api.services import keep_from_own_port, services_of
from homelab_ai.captioning.service import Image
from homelab_ai.crawling.addresses import checked
from homelab_ai.errors import InvalidRequest, ServiceError
from homelab_ai.models.timing import Timing

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]+)*;base64,", re.IGNORECASE)
_WHITE_SPACE = bytes(range(33))
_LONG_TEXT = 100_000
"""Characters; to decode more than that is done in a thread."""


@dataclass(frozen=True)
class LinkedImage:
    """An image that is still to be fetched, and what its sender calls it."""

    url: str
    field: str


GivenImage = Image | LinkedImage | ServiceError


async def read_image(request: Request, text: str, field: str) -> GivenImage:
    """Read an address, or base64 in any of the ways in which it is written.

    Raises `Forbidden` for an address where the caller may have nothing fetched.
    """
    if _ADDRESS.match(text):
        check_scope(request, "crawl", "have images fetched by their address")
        try:
            return LinkedImage(checked(text, field), field)
        except InvalidRequest as error:
            return error
    try:
        data = _from_base64(text) if len(text) < _LONG_TEXT else await asyncio.to_thread(_from_base64, text)
        return Image(data, field)
    except (binascii.Error, UnicodeEncodeError):
        return InvalidRequest.at(
            field, "is neither base64 nor an address; send the content of an image file, in base64, or https://..."
        )


async def fetched(request: Request, images: Sequence[GivenImage], timing: Timing) -> list[Image | ServiceError]:
    """Return the images with those that came as addresses fetched, or an error in the place of each that was not.

    What is fetched counts as a part of the request's body. Raises `ResourceExhausted`.
    """
    links = [image for image in images if isinstance(image, LinkedImage)]
    files: dict[str, bytes | ServiceError] = {}
    if links:
        keep_from_own_port(request)
        started = time.perf_counter()
        files = await services_of(request.scope)["image_fetcher"].fetch(
            [link.url for link in links],
            allow_networks=context_of(request.scope).identity.crawl_networks,
            take=partial(take_as_body, request),
        )
        timing.add("fetch", time.perf_counter() - started)
    return [_of(files[image.url], image.field) if isinstance(image, LinkedImage) else image for image in images]


def _of(file: bytes | ServiceError, field: str) -> Image | ServiceError:
    if isinstance(file, bytes):
        return Image(file, field)
    message = f"{field}: {file.message[0].lower()}{file.message[1:]}"
    details = {**file.details, "field": field}
    return type(file)(message, details=details, retry_after_seconds=file.retry_after_seconds)


def _from_base64(text: str) -> bytes:
    start = found.end() if (found := _DATA_URI.match(text[:200])) else 0
    digits = text[start:].encode("ascii").translate(None, _WHITE_SPACE).translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(digits.rstrip(b"=") + b"=" * (-len(digits.rstrip(b"=")) % 4), validate=True)
