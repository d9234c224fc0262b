"""The outermost layer of a request: its id, its line in the access log, and an answer whatever happens inside.

Everything further in raises `ServiceError`s; this middleware writes them. An exception that nobody meant to raise is
logged with its traceback under the request's id and answered as `INTERNAL_ERROR` without it.
"""

import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homelab_ai.api.endpoints import Endpoints
from homelab_ai.api.envelope import error_response
from homelab_ai.api.keys import NOBODY, Identity
from homelab_ai.errors import InternalError, ServiceError
from homelab_ai.telemetry.logs import current_request_id, log_access
from homelab_ai.telemetry.metrics import Metrics
from homelab_ai.telemetry.requests import CLIENT_CLOSED_REQUEST

log = logging.getLogger(__name__)

_SCOPE_KEY = "homelab_ai.context"
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass
class Context:
    """What is known of one request, filled in on its way inward."""

    request_id: str
    client: str = "-"
    """The client's address, as far as it can be trusted."""
    model: str = "-"
    """Id of the model that answers."""
    identity: Identity = NOBODY
    """Who is asking, once access has found out."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, whatever it will be."""
    refused_with: ServiceError | None = None
    """What the client was told at the outer edge, past the application: the rest of its body was no HTTP."""


def refused_at_the_edge(scope: Scope, error: ServiceError) -> str:
    """Have the request that is at work, or about to be, counted and logged as refused with this. Returns its id."""
    context: Context = scope.setdefault(_SCOPE_KEY, _new_context(scope))
    context.refused_with = error
    return context.request_id


def context_of(scope: Scope) -> Context:
    """Return the context of the request that this ASGI scope belongs to."""
    context = scope[_SCOPE_KEY]
    assert isinstance(context, Context)
    return context


class ContextMiddleware:
    """Gives each request its context and its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, root_path: str = "") -> None:
        """`root_path` is where a reverse proxy publishes the service, such as `/ai`."""
        self._app = app
        self._metrics = metrics
        self._endpoints = Endpoints()
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._place(scope)
        context: Context = scope.get(_SCOPE_KEY) or _new_context(scope)
        scope[_SCOPE_KEY] = context
        current_request_id.set(context.request_id)
        started, status, code = time.perf_counter(), None, None
        self._metrics.request_begun()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({**context.headers, "X-Request-ID": context.request_id})
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.debug("the client has gone")
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("unexpected error")
                error = InternalError("Something went wrong inside; the log says what, under this request_id")
            code = error.code
            if status is None:  # else half an answer is under way, and the server breaks the connection off
                await error_response(error, context.request_id)(scope, receive, send_with_id)
        finally:
            if refusal := context.refused_with:
                status, code = refusal.status, refusal.code
            seconds = time.perf_counter() - started
            self._count(scope, context, status or CLIENT_CLOSED_REQUEST, seconds, code)
            log_access(
                request_id=context.request_id,
                client=context.client,
                endpoint=_endpoint(scope),
                status=status or CLIENT_CLOSED_REQUEST,
                seconds=seconds,
                model=context.model,
            )

    def _count(self, scope: Scope, context: Context, status: int, seconds: float, code: str | None) -> None:
        self._metrics.request_ended(
            endpoint=self._endpoints.of(scope),
            status=status,
            seconds=seconds,
            code=code,
            request_id=context.request_id,
            stranger=context.identity is NOBODY,
        )

    def _place(self, scope: Scope) -> None:
        """Bring the path to the form that ASGI wants, whether the proxy takes the prefix away or leaves it."""
        if self._root_path:
            scope["root_path"] = self._root_path
            if not scope["path"].startswith(f"{self._root_path}/"):
                scope["path"] = self._root_path + scope["path"]


def _new_context(scope: Scope) -> Context:
    """With the client's own id if it could not be taken for anything else in a log, or a new one."""
    offered = Headers(scope=scope).get("X-Request-ID", "")
    return Context(offered if _WELL_FORMED_ID.fullmatch(offered) else str(uuid.uuid4()))


def _endpoint(scope: Scope) -> str:
    """The template of the route that answered, or the path where none did."""
    route = scope.get("route")
    return str(getattr(route, "path", scope["path"]))
