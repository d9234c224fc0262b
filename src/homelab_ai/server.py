"""The outer edge: the protocol that uvicorn speaks on each connection, with limits on what a client can hold or send.

uvicorn has no deadline for the head of a request and none for a client that does not read its answer, so a thousand
connections that send a byte now and then would be held for ever. What is bounded here is what happens outside of
requests; the body of one is bounded by `api/reading`, its work by `models/deadline`.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import sys
import uuid
from http import HTTPStatus
from typing import Any, ClassVar, cast

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from homelab_ai.api.context import refused_at_the_edge
from homelab_ai.api.endpoints import OTHER
from homelab_ai.api.envelope import error_response
from homelab_ai.api.shutdown import ends_with_the_service
from homelab_ai.errors import HeadersTooLarge, InvalidRequest, RequestTimeout, ResourceExhausted, ServiceError
from homelab_ai.telemetry.logs import log_access

log = logging.getLogger(__name__)

_REPLACED = {"uvicorn.protocols.http.h11_impl", "uvicorn.protocols.http.httptools_impl"}
"""What uvicorn speaks by itself. httptools bounds no headers; others, for HTTP/2, could not be replaced unnoticed."""


class Protocol(H11Protocol):
    """One connection. The limits are for the whole service; no home has a reason to turn them."""

    head_seconds: ClassVar[float] = 15
    """How long a client may take to send the head of a request, or what is left of one that is answered already."""
    unread_seconds: ClassVar[float] = 30
    unread_bytes: ClassVar[int] = 256 * 1024
    """A client that reads less than this of its answer in that time is cut off."""
    most_connections: ClassVar[int] = 512

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn: _Connection = _Connection()
        self._head_timer: asyncio.TimerHandle | None = None
        self._awaited: str | None = None
        self._since = 0.0
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Make room for the connection, or refuse it."""
        super().connection_made(transport)
        self._watch_head()
        if len(self.connections) > self.most_connections and not self._make_room():
            self._refuse(
                ResourceExhausted(
                    f"All {self.most_connections} connections are at work; try again later", retry_after_seconds=1
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._head_timer, self._unread_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """Watch that the client reads what it has asked for."""
        super().pause_writing()
        self._watch_reading()

    def on_response_complete(self) -> None:
        """Watch the same of an answer that is short, or the last one, and what has come meanwhile."""
        super().on_response_complete()
        self._watch_reading()
        if self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]:  # else keep-alive has a time of its own
            self._watch_head()

    def shutdown(self) -> None:
        """Let what is at work be answered, when the service ends, but wait for nobody to read what goes on for ever."""
        super().shutdown()
        scope: Scope = getattr(self.cycle, "scope", {})  # there is no cycle before the first request
        if ends_with_the_service(scope) and self.transport.get_write_buffer_size():
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Refuse what is no HTTP request. Called where the exception that says so is handled."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == HeadersTooLarge.status:
            self._refuse(
                HeadersTooLarge(
                    f"The head of a request may have {_Connection.most_bytes} bytes and {_Connection.most_headers} "
                    "headers; send fewer",
                    details={"max_bytes": _Connection.most_bytes, "max_headers": _Connection.most_headers},
                )
            )
        else:
            self._refuse(InvalidRequest("This is not a valid HTTP/1.1 request; the connection is closed"))

    def _should_upgrade(self) -> bool:
        # No route speaks another protocol; RFC 9110 section 7.8 lets a server ignore the wish.
        return False

    # --- deadlines

    def _watch_head(self) -> None:
        awaited = None
        if self.conn.their_state is h11.IDLE:
            awaited = "head"
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state in {h11.DONE, h11.MUST_CLOSE}:
            awaited = "rest of a body"  # which nobody reads any more: its request is answered
        if awaited == self._awaited:
            return
        if self._head_timer:
            self._head_timer.cancel()
        self._awaited, self._since = awaited, self.loop.time()
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late) if awaited else None

    def _head_is_late(self) -> None:
        if self._awaited == "head" and self.conn.trailing_data[0]:
            self._refuse(
                RequestTimeout(
                    f"The head of the request has not arrived within {self.head_seconds:g} s",
                    details={"timeout_seconds": self.head_seconds},
                )
            )
        else:  # nothing was asked, or all that was is answered
            self.close()

    def _watch_reading(self) -> None:
        """Give the client time, from now, to read of what is written."""
        if self._unread_timer:
            self._unread_timer.cancel()
        self._unread, self._unread_since = self.transport.get_write_buffer_size(), self.loop.time()
        later = self.loop.call_later
        self._unread_timer = later(self.unread_seconds, self._look_at_reading) if self._unread else None

    def _look_at_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and self._unread - left < self.unread_bytes:
            log.info("a client that does not read its answer is cut off")
            self.transport.abort()
        else:
            self._watch_reading()

    # --- ends

    def _make_room(self) -> bool:
        """Close the connection that has waited longest without a request at work; tell whether there is one.

        Where there is none, the client that has left its answer unread for longest is cut off.
        """
        others = [other for other in self.connections if isinstance(other, Protocol) and other is not self]
        if idle := [other for other in others if other.is_idle]:
            # Those that have never had an answer go first: they may never have meant to ask.
            min(idle, key=lambda other: (other.cycle is not None, other.since)).close()
        elif unread := [other for other in others if other.is_unread]:
            min(unread, key=lambda other: other.unread_since).transport.abort()
        else:
            return False
        return True

    @property
    def is_idle(self) -> bool:
        """Whether no request is at work, and every answer sent."""
        return self._is_answered and not (self.transport.is_closing() or self.transport.get_write_buffer_size())

    @property
    def _is_answered(self) -> bool:
        answered: bool = getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request
        return answered

    @property
    def is_unread(self) -> bool:
        """Whether it is the client that everything waits for."""
        return self._unread_timer is not None and self.transport.get_write_buffer_size() > 0

    @property
    def since(self) -> float:
        """When what it waits for began, by the event loop's clock."""
        return self._since

    @property
    def unread_since(self) -> float:
        """When it was last seen that the client reads."""
        return self._unread_since

    def close(self) -> None:
        """Close the connection when what is written has been read; a client that does not read is cut off."""
        self.transport.close()
        self._watch_reading()

    def _refuse(self, error: ServiceError) -> None:
        """Answer with an error, unless half an answer is under way, and close the connection."""
        at_work = not self._is_answered
        if at_work:  # whoever works at the request is told that nobody waits for it, and may answer it no more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            # uvicorn's own type of a scope is not that of Starlette, but it is the same dictionary.
            request_id = refused_at_the_edge(cast("Scope", self.cycle.scope), error) if at_work else str(uuid.uuid4())
            response = error_response(error, request_id)
            headers = [*response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
            body = b"" if self.conn.method == b"HEAD" else bytes(response.body)
            reason = HTTPStatus(error.status).phrase.encode()
            for event in (
                h11.Response(status_code=error.status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            if not at_work:  # else it is counted, and has a line of its own in the log
                self._account_for(error, request_id)
        self.close()

    def _account_for(self, error: ServiceError, request_id: str) -> None:
        seconds = self.loop.time() - self._since
        if metrics := self.app_state.get("metrics"):  # else the application has not started
            metrics.request_begun()
            metrics.request_ended(
                endpoint=OTHER,
                status=error.status,
                seconds=seconds,
                code=error.code,
                request_id=request_id,
                stranger=True,
            )
        log_access(
            request_id=request_id,
            client=self.client[0] if self.client else "-",
            endpoint="-",
            status=error.status,
            seconds=seconds,
            model="-",
        )


class _Connection(h11.Connection):
    """Is stricter than h11 about what has two meanings, so that no proxy before us can take it for something else."""

    most_bytes: ClassVar[int] = 32 * 1024
    most_headers: ClassVar[int] = 100
    most_chunks: ClassVar[int] = 1000
    """Of a body whose chunks have less than `least_chunk_bytes` on average."""
    least_chunk_bytes: ClassVar[int] = 64

    def __init__(self) -> None:
        super().__init__(h11.SERVER, self.most_bytes)
        self.method = b""
        """Of the last request."""
        self._chunks = self._bytes = 0
        """Of its body."""

    def next_event(self) -> Any:
        """As h11's. Raises `RemoteProtocolError`."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.method, self._chunks, self._bytes = event.method, 0, 0
            _check(event)
        elif isinstance(event, h11.Data):
            self._chunks, self._bytes = self._chunks + event.chunk_start, self._bytes + len(event.data)
            if self._chunks > self.most_chunks and self._bytes < self.least_chunk_bytes * self._chunks:
                # Each is parsed by itself: a megabyte of them a second would keep everybody else waiting.
                raise h11.RemoteProtocolError("chunks of next to nothing")
        return event


def _check(request: h11.Request) -> None:
    headers = list(request.headers)
    if (
        len(headers) > _Connection.most_headers
        # h11 minds the size only of what has not come whole.
        or len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers) > _Connection.most_bytes
    ):
        raise h11.RemoteProtocolError("too large", error_status_hint=HeadersTooLarge.status)
    if request.http_version not in {b"1.0", b"1.1"}:
        raise h11.RemoteProtocolError("HTTP/2 without asking, or nothing known")
    if not request.target.startswith(b"/"):
        raise h11.RemoteProtocolError("this is not a proxy")
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        raise h11.RemoteProtocolError("two lengths (RFC 9112 section 6.1)")


class Edge:
    """What `uvicorn main:app` serves: the application, with its connections handled by `Protocol` there, too.

    uvicorn hands an application nothing of itself but the callables of ASGI. During the lifespan, `receive` is a method
    of its `LifespanOn`, which knows the configuration, from which each connection's protocol is taken later.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            fit_for_many_requests()
            config = getattr(getattr(receive, "__self__", None), "config", None)
            if isinstance(config, Config):
                _protect(config)
        await self._app(scope, receive, send)


def _protect(config: Config) -> None:
    # It would believe whom FORWARDED_ALLOW_IPS names. Whom we believe is `server.trusted_proxies`.
    while isinstance(config.loaded_app, ProxyHeadersMiddleware):
        config.loaded_app = config.loaded_app.app
    if issubclass(config.http_protocol_class, Protocol):
        return
    if config.http_protocol_class.__module__ in _REPLACED:
        config.http_protocol_class = Protocol
    else:
        log.warning("this HTTP implementation sets slow clients no limit; start with --http h11, or homelab-ai serve")


def fit_for_many_requests() -> None:
    """Prepare this process, once all is there that stays: its open files, and its garbage collector."""
    _allow_many_files()
    # Each request leaves some hundred objects for a while, so the collector came every few requests, and looked through
    # all that will never go as well: that took a fifth of the time of a short request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def _allow_many_files() -> None:
    """Let it have as many files and sockets open as it may: the usual limit is that of the last century."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says that there is no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
