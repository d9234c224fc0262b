"""`GET /api/stream`: what the service is doing, as it happens, for a page that stays open.

Nothing is queued for a stream: once a second it looks at what there is. So a slow reader misses what it did not read in
time, and takes no memory; and who must not look any more is noticed with the next look.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Depends
from fastapi.sse import format_sse_event
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from homelab_ai.api import shutdown
from homelab_ai.api.access import needs
from homelab_ai.api.documents import errors
from homelab_ai.api.models import ModelsResponse, models_response
from homelab_ai.api.services import services_of
from homelab_ai.api.status import StatusResponse, status_response
from homelab_ai.errors import ResourceExhausted, ServiceError

router = APIRouter(tags=["Monitoring"])

_EVERY_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would keep events until it has many
_EXAMPLE = 'event: status\ndata: {"version": "0.1.0", "uptime_seconds": 86400.5, "ready": true}\n\n'


async def _place(request: Request) -> AsyncIterator[None]:
    """Have a place from before the answer begins, while there can still be an error, until it has ended."""
    services = services_of(request.scope)
    with services["watching"].place(), services["metrics"].requests.watching():
        yield


@router.get(
    "/api/stream",
    summary="Watch the service",
    dependencies=[needs("read"), Depends(_place)],
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {"example": _EXAMPLE}},
            "description": "Server-sent events, until the client goes, may not look any more, or the service stops.",
        },
        **errors(ResourceExhausted),
    },
)
async def stream(request: Request) -> Response:
    """Stream what the service is doing, as server-sent events. docs/monitoring.md has what each of them holds.

    `history`, once: the last ten minutes. `status`, once a second: as `GET /api/status`. `models`, at first and when
    something has changed: as `GET /api/models`. `log`, for callers with the scope `admin`: the last lines of both logs,
    then those that come.
    """
    events = shutdown.until(request.scope, _events(request))
    return StreamingResponse(events, headers=_HEADERS, media_type="text/event-stream")


async def _events(request: Request) -> AsyncIterator[bytes]:
    services = services_of(request.scope)
    gate, watching, tail = services["gate"], services["watching"], services["tail"]
    version, line = 0, None

    async def look() -> tuple[StatusResponse, ModelsResponse]:
        return await status_response(request), models_response(services["models"])

    yield _event("history", orjson.dumps(services["history"].told(), option=orjson.OPT_UTC_Z))
    while True:
        frame = await watching.frame(look)
        try:
            scopes = gate.recognize(request.scope).scopes
        except ServiceError:  # the key was revoked, or the address is not allowed any more
            return
        if "read" not in scopes:
            return
        events = [_event("status", frame.status)]
        if frame.version != version:
            events.append(_event("models", frame.models))
            version = frame.version
        if "admin" in scopes:
            new = tail.since(line)
            line = new.last
            events += [_event("log", orjson.dumps(entry)) for entry in (*_gap(new.lost), *new.entries)]
        yield b"".join(events)
        await asyncio.sleep(_EVERY_SECONDS)


def _gap(lost: int) -> list[dict[str, Any]]:
    """What stands in the place of lines that came faster than they are shown."""
    if not lost:
        return []
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = f"{lost} lines are left out here; the logs have them"
    return [{"time": time, "level": "info", "logger": __name__, "message": message, "request_id": "-"}]


def _event(name: str, data: str | bytes) -> bytes:
    return format_sse_event(event=name, data_str=data if isinstance(data, str) else data.decode())
