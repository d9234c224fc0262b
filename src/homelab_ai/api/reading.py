"""How a request's body is read, within limits, and how work is given up when nobody waits for it any more."""

import asyncio
import codecs
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homelab_ai.api.access import ScopedRoute
from homelab_ai.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    ResourceExhausted,
    UnsupportedMediaType,
)

T = TypeVar("T")

_TAKE = "homelab_ai.take_as_body"
_BODIES_AT_ONCE = 8
"""Of the largest size: what all requests together may hold in memory."""
_MOST_VALUES = 1_000_000
_JSON_TYPE = re.compile(r"application/(json|[^/\s]+\+json)")


class BodyLimits:
    """A middleware that lets no body be larger than it may be, nor take for ever to arrive.

    Starlette has one for the size, but that answers in plain text.
    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[], int], timeout_seconds: float) -> None:
        """`max_bytes` tells how large a body may be at the moment."""
        self._app = app
        self._held = 0
        """Bytes of the bodies of all requests that are at work."""
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("Content-Length", "")
        self._check_size(int(announced[:20]) if announced.isdecimal() else 0)
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        read, complete, over = 0, False, False

        def take(size: int, what: str = "The body") -> None:
            nonlocal read
            if over:  # what was fetched for it is given up a moment later than the request itself
                return
            self._check_size(read + size, what)
            if self._held + size > _BODIES_AT_ONCE * self._max_bytes():
                raise ResourceExhausted(
                    "The bodies of all requests together are too large at the moment; try again later",
                    retry_after_seconds=1,
                )
            read, self._held = read + size, self._held + size

        async def receive_within_limits() -> Message:
            nonlocal read, complete
            if complete:  # what comes now is the end of the connection, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout(
                    f"The body has not arrived within {self._timeout_seconds:g} s",
                    details={"timeout_seconds": self._timeout_seconds},
                ) from None
            complete = not message.get("more_body", False)
            take(len(message.get("body", b"")))
            return message

        scope[_TAKE] = take
        try:
            await self._app(scope, receive_within_limits, send)
        finally:
            self._held -= read
            over = True

    def _check_size(self, size: int, what: str = "The body") -> None:
        if size > (most := self._max_bytes()):
            raise PayloadTooLarge(
                f"{what} is larger than {most:,} bytes; send less at a time, or raise limits.max_body_mb",
                details={"max_bytes": most},
            )


def take_as_body(request: Request, size: int) -> None:
    """Count so many bytes as if they had come in the request's body, because they are held for it as those are.

    Raises `PayloadTooLarge` or `ResourceExhausted`, and has not counted them then.
    """
    request.scope[_TAKE](size, "The request with the images that are fetched for it")


class JsonRoute(ScopedRoute):
    """A route whose body is JSON, and is nothing else."""

    def handler_of_checked(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler, so that it is given a request which is read already."""
        handler = super().handler_of_checked()

        async def read_then_handle(request: Request) -> Response:
            return await handler(await read(request) if self.body_field else request)

        return read_then_handle


class RequestBody(BaseModel):
    """Base of everything that a request may hold. A field that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_first_unknown_field(cls, data: Any) -> Any:
        # pydantic would list them all, and a body can hold millions.
        unknown = (
            next((name for name in data if name not in cls.model_fields), None) if isinstance(data, dict) else None
        )
        if unknown is not None:
            fields = ", ".join(cls.model_fields)
            raise InvalidRequest.at(unknown[:100] or '""', f"is not a field of this request, which has: {fields}")
        return data


class _ReadRequest(Request):
    """A request whose JSON has been read."""

    parsed: Any

    async def body(self) -> bytes:
        return b" "  # all that FastAPI wants to know is whether there is one; the bytes themselves are gone by now

    async def json(self) -> Any:
        return self.parsed


def content_type_of(request: Request) -> str:
    """The media type of the body, without parameters, in lower case."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read(request: Request) -> Request:
    """Return the request with its JSON read. Raises `InvalidRequest` or `UnsupportedMediaType`."""
    content_type = content_type_of(request)
    if not _JSON_TYPE.fullmatch(content_type):
        raise UnsupportedMediaType(
            f"This route reads JSON, not {content_type[:100] or 'a body of unknown type'}; "
            "send the header `Content-Type: application/json`",
            details={"content_type": content_type[:100]},
        )
    body = await Request(request.scope, request.receive).body()
    if not body:
        raise InvalidRequest.at("body", "is empty; send a JSON object")
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        # A body within its limit of bytes can still become gigabytes of empty objects.
        raise InvalidRequest.at("body", f"holds more than {_MOST_VALUES:,} values or commas; send less at a time")
    read = _ReadRequest(request.scope, request.receive)
    try:
        read.parsed = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest.at("body", f"is not valid JSON: {error.msg} at character {error.pos}") from error
    return read


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, or cancel it and raise `ClientDisconnect` when the client hangs up first.

    To be called when the body has been read: from then on, all that the connection can bring is its end.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        gone.cancel()
        working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
