"""`/api/models`: which models there are, what each is doing and takes, and how to have one loaded or unloaded."""

import asyncio
import contextlib
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from homelab_ai.api.access import needs
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import errors
from homelab_ai.api.reading import while_connected
from homelab_ai.api.services import services_of
from homelab_ai.errors import ModelLoadFailed, ModelNotFound, ModelNotLoaded, RequestTimeout, ResourceExhausted
from homelab_ai.models.catalogue import Kind
from homelab_ai.models.residency import PINNED, ModelState, Snapshot

router = APIRouter(prefix="/api/models", tags=["Models"])


class ModelResponse(BaseModel):
    """One configured model."""

    id: str = Field(description="The name that answers carry as `model_used`.", examples=["minilm"])
    type: Kind
    hf_model: str = Field(
        description="Name on the hub; of a local folder, its last part.",
        examples=["sentence-transformers/all-MiniLM-L6-v2"],
    )
    revision: str | None = Field(description="The pinned revision, if any.")
    aliases: list[str]
    enabled: bool = Field(description="Whether requests may use it.")
    default: bool = Field(description="Whether it answers requests of its type that name no model.")
    state: ModelState = Field(
        description="`available`: not loaded; if enabled, it will be when it is asked for. `draining`: answers the "
        "requests that use it, takes no others, and is unloaded then. `failed`: could not be loaded the last time."
    )
    pinned: bool = Field(description="Whether it stays loaded, once it is, whatever else needs room.")
    keep_alive_seconds: float | None = Field(
        description="How long it stays loaded without a request; null when it is pinned."
    )
    idle_seconds: float | None = Field(description="How long it has been loaded without a request by now.")
    unloads_in_seconds: float | None = Field(description="When it is unloaded if no request comes.")
    memory_bytes: int = Field(description="Main memory that it takes now, as measured, without what programs share.")
    gpu_memory_bytes: int = Field(description="GPU memory that it takes now.")
    requests: int = Field(description="Requests that have asked for it since the service started.")
    active_requests: int = Field(description="Requests that it is answering, or that wait for it to be loaded.")
    dimensions: int | None = Field(description="Length of its vectors, as configured or, once loaded, as measured.")
    backend: str | None = Field(description="What runs it. Known once it has been loaded, as are the next three.")
    device: str | None
    precision: str | None
    max_length: int | None = Field(description="Its window in tokens: longer texts are cut.")
    loads: int = Field(description="How often it has been loaded since the service started.")
    load_seconds: float | None = Field(description="How long the last load took.")
    failure: str | None = Field(description="Why it could not be loaded, when that is its state.")
    retry_in_seconds: float | None = Field(
        description="When a request will have it tried again, in state `failed`. `POST .../load` tries at once."
    )


class ModelsResponse(BaseModel):
    """Every configured model, in the order of the configuration."""

    models: list[ModelResponse]


@router.get("", summary="List models", dependencies=[needs("read")], responses=errors())
async def list_models(request: Request) -> ModelsResponse:
    """List every configured model, enabled or not."""
    registry = services_of(request.scope)["models"]
    return ModelsResponse(models=[_response(registry.snapshot(model)) for model in registry.catalogue])


@router.get("/{model_id:path}", summary="Show one model", dependencies=[needs("read")], responses=errors(ModelNotFound))
async def show_model(request: Request, model_id: str) -> ModelResponse:
    """Show one model. It may be named as in a request: by id, alias or hub name."""
    registry = services_of(request.scope)["models"]
    return _response(registry.snapshot(registry.catalogue.get(model_id)))


@router.post(
    "/{model_id:path}/load",
    summary="Load a model",
    dependencies=[needs("admin")],
    responses=errors(ModelNotFound, ModelNotLoaded, ModelLoadFailed, ResourceExhausted, RequestTimeout),
)
async def load_model(request: Request, model_id: str) -> ModelResponse:
    """Load the model now, rather than with its next request, and answer when that is done.

    One that could not be loaded a moment ago is tried at once. To ask for a model that is loaded changes nothing.
    """
    services = services_of(request.scope)
    registry, seconds = services["models"], services["request_timeout_seconds"]
    model = registry.catalogue.get(model_id)
    context_of(request.scope).model = model.id
    if not model.settings.enabled:
        registry.catalogue.choose(model.id, model.kind)  # which says what to do about it
    try:
        async with asyncio.timeout(seconds):
            await while_connected(request, registry.load(model))
    except TimeoutError:
        raise RequestTimeout(
            f"Model {model.id!r} is not loaded after {seconds:g} s; the load goes on, and GET tells how it ended",
            details={"model_id": model.id, "timeout_seconds": seconds},
        ) from None
    return _response(registry.snapshot(model))


@router.post(
    "/{model_id:path}/unload",
    summary="Unload a model",
    dependencies=[needs("admin")],
    responses=errors(ModelNotFound),
)
async def unload_model(request: Request, model_id: str) -> ModelResponse:
    """Unload the model once the requests that use it have been answered, and answer when its memory is free again.

    Where that takes longer than a request may, the answer says `draining`. The next request loads the model again.
    """
    services = services_of(request.scope)
    registry = services["models"]
    model = registry.catalogue.get(model_id)
    context_of(request.scope).model = model.id
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(services["request_timeout_seconds"]):
            await while_connected(request, registry.unload(model))
    return _response(registry.snapshot(model))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _response(snapshot: Snapshot) -> ModelResponse:
    settings = snapshot.model.settings
    described: dict[str, Any] = dict(snapshot.described)
    return ModelResponse(
        id=snapshot.model.id,
        type=snapshot.model.kind,
        hf_model=_without_folder(settings.hf_model),
        revision=settings.revision,
        aliases=list(settings.aliases),
        enabled=settings.enabled,
        default=snapshot.model.default,
        state=snapshot.state,
        dimensions=described.get("dimensions", getattr(settings, "dimensions", None)),
        backend=described.get("backend"),
        device=described.get("device"),
        precision=described.get("precision"),
        max_length=described.get("max_length", getattr(settings, "max_length", None)),
        pinned=snapshot.keep_alive_seconds == PINNED,
        keep_alive_seconds=None if snapshot.keep_alive_seconds == PINNED else snapshot.keep_alive_seconds,
        idle_seconds=_rounded(snapshot.idle_seconds),
        unloads_in_seconds=_rounded(snapshot.unloads_in_seconds),
        memory_bytes=snapshot.footprint.memory_bytes,
        gpu_memory_bytes=snapshot.footprint.gpu_memory_bytes,
        requests=snapshot.requests,
        active_requests=snapshot.active_requests,
        loads=snapshot.loads,
        load_seconds=_rounded(snapshot.load_seconds),
        failure=snapshot.failure,
        retry_in_seconds=_rounded(snapshot.retry_in_seconds),
    )


def _without_folder(hf_model: str) -> str:
    """A hub name as it is; of a path on this machine only what names the model."""
    return hf_model.rstrip("/").rpartition("/")[2] if hf_model.startswith(("/", ".", "~")) else hf_model
