"""`/api/models/{id}/pull`: models downloaded from the hub, and how far that is."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.requests import Request

from homelab_ai.api import shutdown
from homelab_ai.api.access import needs
from homelab_ai.api.documents import errors
from homelab_ai.api.models import DownloadResponse, ModelResponse, model_response
from homelab_ai.api.services import model_named, services_of
from homelab_ai.errors import Conflict, ModelNotFound
from homelab_ai.models.files.downloads import Progress

router = APIRouter(prefix="/api/models", tags=["Models"])


@router.post(
    "/{model_id:path}/pull",
    status_code=202,
    summary="Download a model",
    dependencies=[needs("admin")],
    responses=errors(ModelNotFound, Conflict),
)
async def pull_model(request: Request, model_id: str) -> ModelResponse:
    """Have the model downloaded from the hub, or brought up to date, and answer at once: `GET .../pull` follows it.

    A download that was broken off goes on where it was. There is never more than one of a model; a model that is loaded
    stays as it is until it is loaded anew.
    """
    registry = services_of(request.scope)["models"]
    model = model_named(request, model_id)
    registry.pull(model)
    return model_response(registry.snapshot(model))


async def _download(request: Request, model_id: str) -> AsyncIterator[Progress]:
    """Find the download before the answer begins, while it can still be an error."""
    services = services_of(request.scope)
    model = model_named(request, model_id)
    if not services["models"].snapshot(model).download:
        raise Conflict(
            f"Model {model.id!r} has not been downloaded since the service started; POST /api/models/{model.id}/pull "
            "does that",
            details={"model_id": model.id},
        )
    return shutdown.until(request.scope, services["models"].follow_pull(model))


@router.get(
    "/{model_id:path}/pull",
    summary="Follow a download",
    dependencies=[needs("read")],
    response_class=EventSourceResponse,
    responses=errors(ModelNotFound, Conflict),
)
async def follow_pull(
    download: Annotated[AsyncIterator[Progress], Depends(_download)],
) -> AsyncIterator[ServerSentEvent]:
    """Stream how far the download of the model is, as server-sent events: `running` with every change, then `done` or
    `failed`. The data of each is the model's `download`, as `GET /api/models/{id}` shows it.
    """  # noqa: D205 - one paragraph
    async for progress in download:
        yield ServerSentEvent(event=progress.state, data=DownloadResponse.of(progress))
