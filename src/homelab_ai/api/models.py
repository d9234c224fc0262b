"""`/api/models`: which models there are, what each is doing and takes, and how that is changed."""

import asyncio
import contextlib
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api.access import needs
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import READING, errors
from homelab_ai.api.reading import JsonRoute, RequestBody, while_connected
from homelab_ai.api.services import model_named, services_of
from homelab_ai.errors import (
    Conflict,
    InvalidRequest,
    ModelLoadFailed,
    ModelNotFound,
    ModelNotLoaded,
    RequestTimeout,
    ResourceExhausted,
)
from homelab_ai.models.catalogue import Kind
from homelab_ai.models.files import places
from homelab_ai.models.files.downloads import Progress
from homelab_ai.models.inventory import ENTRY_TYPES, Entry
from homelab_ai.models.registry import LocalModels
from homelab_ai.models.residency import PINNED, ModelState, Snapshot
from homelab_ai.settings import KeepAlive, TextEmbeddingModel, is_reserved
from homelab_ai.settings.values import Place, Switch, expecting, repeated, spell

router = APIRouter(route_class=JsonRoute, prefix="/api/models", tags=["Models"])


class DownloadResponse(BaseModel):
    """How far a download is."""

    state: Literal["running", "done", "failed"]
    bytes: int = Field(description="What is here, of earlier tries too.")
    total_bytes: int | None = Field(description="All there is; null until the hub has been asked.")
    seconds_left: float | None = Field(description="How long it will take yet, once that can be judged.")
    failure: str | None = Field(description="Why it failed, when that is its state.")

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """Say how far that is."""
        return cls(
            state=progress.state,
            bytes=progress.bytes,
            total_bytes=progress.total_bytes,
            seconds_left=_rounded(progress.seconds_left),
            failure=progress.failure,
        )


class ModelResponse(BaseModel):
    """One model on offer."""

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
        description="`available`: not loaded; if enabled, it will be when it is asked for. `downloading`: its files "
        "are on their way from the hub. `draining`: answers the "
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
    backend: str | None = Field(description="What runs it. Known once it has been loaded, as are the next six.")
    backend_reason: str | None = Field(description="Why it does not run on openvino, which is faster on a CPU.")
    device: str | None
    precision: str | None
    max_length: int | None = Field(description="Its window in tokens: longer texts are cut.")
    fingerprint: str | None = Field(
        description="The same for all vectors that belong into one database, as the header `X-Embedding-Fingerprint`."
    )
    promptable: bool | None = Field(
        description="Whether it follows the `prompt` of a captioning request. Known once it has been loaded."
    )
    loads: int = Field(description="How often it has been loaded since the service started.")
    load_seconds: float | None = Field(description="How long the last load took.")
    failure: str | None = Field(description="Why it could not be loaded, when that is its state.")
    retry_in_seconds: float | None = Field(
        description="When a request will have it tried again, in state `failed`. `POST .../load` tries at once."
    )
    download: DownloadResponse | None = Field(
        description="Its download, or the last one since the service started; null if there was none."
    )


class ModelsResponse(BaseModel):
    """Every model, in the order of the configuration; those added since come last."""

    models: list[ModelResponse]


def _as_it_is_served(schema: dict[str, Any]) -> None:
    """Leave out what has no effect yet, and show an example."""
    for name in [name for name in TextEmbeddingModel.model_fields if is_reserved(TextEmbeddingModel, name)]:
        del schema["properties"][name]
    schema["example"] = {
        "type": "text_embedding",
        "id": "multilingual",
        "hf_model": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    }


class AddModelRequest(RequestBody, TextEmbeddingModel):
    """A model to offer: its type, and its settings as in config.yaml."""

    model_config = ConfigDict(json_schema_extra=_as_it_is_served)

    type: Kind = Field(description="What it does: turn text into vectors, or describe images.")
    pull: Switch = Field(default=False, description="Whether to download it now, rather than with its first request.")

    def entry(self) -> Entry:
        """The same as the entry of a configuration. Raises `InvalidRequest`."""
        entry_type = ENTRY_TYPES[self.type]
        given = self.model_dump(include=self.model_fields_set - {"type", "pull"})
        for name in given:
            if name not in entry_type.model_fields:
                raise InvalidRequest.at(name, f"is not a setting of models of the type {self.type}; leave it out")
            if is_reserved(entry_type, name):
                raise InvalidRequest.at(name, "has no effect in this version; leave it out")
        if self.pull and places.must_be_a_folder(self.hf_model):
            raise InvalidRequest.at("pull", "there is nothing to download of a folder of this machine; leave it out")
        names: list[tuple[Place, str]] = [(("id",), self.id.lower())]
        names += [(("aliases", n), alias.lower()) for n, alias in enumerate(self.aliases)]
        for place, first in repeated(names):
            raise InvalidRequest.at(spell(place), f"the same name as {spell(first)}; they must all differ")
        return entry_type.model_validate(given)


class ChangeModelRequest(RequestBody):
    """What is to be changed. What is left out stays as it is."""

    model_config = ConfigDict(strict=True, json_schema_extra={"example": {"default": True}, "minProperties": 1})

    default: Annotated[Literal[True], expecting("true; to have another default, make that one the default")] = Field(
        default=True, description="Have it answer requests of its type that name no model, in the place of another."
    )
    enabled: Switch = Field(
        default=True, description="Whether requests may use it. One that is disabled is unloaded after those at work."
    )
    keep_alive_minutes: KeepAlive | None = Field(
        default=None,
        description="Minutes without a request after which it is unloaded; 0 at once, -1 never, null as all models.",
    )


class RemovedModelResponse(BaseModel):
    """A model that is no longer on offer."""

    id: str = Field(description="The id that it had.", examples=["multilingual"])
    purged_bytes: int = Field(description="How many bytes of its files were removed.")


@router.get("", summary="List models", dependencies=[needs("read")], responses=errors())
async def list_models(request: Request) -> ModelsResponse:
    """List every model on offer, enabled or not."""
    return models_response(services_of(request.scope)["models"])


@router.post(
    "",
    status_code=201,
    summary="Add a model",
    dependencies=[needs("admin")],
    responses=errors(*READING, Conflict, ResourceExhausted),
)
async def add_model(request: Request, response: Response, body: Annotated[AddModelRequest, Body()]) -> ModelResponse:
    """Offer one model more, from now on and after every restart. It is loaded when it is first asked for.

    `hf_model` is a name on the hub, or a folder inside the models folder or one of `resources.local_model_roots`.
    """
    services = services_of(request.scope)
    registry, seconds = services["models"], services["request_timeout_seconds"]
    try:
        async with asyncio.timeout(seconds):
            model = await registry.add(body.type, body.entry())
    except TimeoutError:
        raise RequestTimeout(
            f"The folder has not answered within {seconds:g} s, and nothing was added; is the drive there?",
            details={"timeout_seconds": seconds},
        ) from None
    if body.pull:
        registry.pull(model)
    context_of(request.scope).model = model.id
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/models/{model.id}"
    return model_response(registry.snapshot(model))


@router.get("/{model_id:path}", summary="Show one model", dependencies=[needs("read")], responses=errors(ModelNotFound))
async def show_model(request: Request, model_id: str) -> ModelResponse:
    """Show one model. It may be named as in a request: by id, alias or hub name."""
    registry = services_of(request.scope)["models"]
    return model_response(registry.snapshot(model_named(request, model_id)))


@router.patch(
    "/{model_id:path}",
    summary="Change a model",
    dependencies=[needs("admin")],
    responses=errors(*READING, ModelNotFound, ResourceExhausted),
)
async def change_model(request: Request, model_id: str, body: Annotated[ChangeModelRequest, Body()]) -> ModelResponse:
    """Make it the default model of its type, enable or disable it, or change its keep-alive, for good."""
    registry = services_of(request.scope)["models"]
    model = model_named(request, model_id)
    if not body.model_fields_set:
        raise InvalidRequest.at("body", f"changes nothing; it may hold: {', '.join(type(body).model_fields)}")
    return model_response(registry.snapshot(registry.change(model, body.model_dump(exclude_unset=True))))


@router.delete(
    "/{model_id:path}",
    summary="Remove a model",
    dependencies=[needs("admin")],
    responses=errors(InvalidRequest, ModelNotFound, Conflict, ResourceExhausted, RequestTimeout),
)
async def remove_model(
    request: Request,
    model_id: str,
    *,
    purge: Annotated[bool, Query(description="Whether to remove what was downloaded of it as well.")] = False,
) -> RemovedModelResponse:
    """Offer the model no longer, and answer when its memory is free again.

    Requests that it is answering are answered first; where that takes longer than a request may, the answer is 504, and
    the rest is done all the same. A model of config.yaml stays removed until it is added again. `purge` does not remove
    folders that were placed by hand.
    """
    services = services_of(request.scope)
    registry = services["models"]
    model = registry.catalogue.named(model_id)  # a hub name may stand for one of several
    context_of(request.scope).model = model.id
    try:
        async with asyncio.timeout(services["request_timeout_seconds"]):
            purged_bytes = await registry.remove(model, purge=purge)
    except TimeoutError:
        raise RequestTimeout(
            f"Model {model.id!r} is removed, but its last requests are not answered yet",
            details={"model_id": model.id, "timeout_seconds": services["request_timeout_seconds"]},
        ) from None
    return RemovedModelResponse(id=model.id, purged_bytes=purged_bytes)


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
    model = model_named(request, model_id)
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
    return model_response(registry.snapshot(model))


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
    model = model_named(request, model_id)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(services["request_timeout_seconds"]):
            await while_connected(request, registry.unload(model))
    return model_response(registry.snapshot(model))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def models_response(registry: LocalModels) -> ModelsResponse:
    """Say what is known of every model."""
    return ModelsResponse(models=[model_response(registry.snapshot(model)) for model in registry.catalogue])


def model_response(snapshot: Snapshot) -> ModelResponse:
    """Say what is known of a model, without a path of this machine."""
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
        backend_reason=described.get("backend_reason"),
        device=described.get("device"),
        precision=described.get("precision"),
        max_length=described.get("max_length", getattr(settings, "max_length", None)),
        fingerprint=described.get("fingerprint"),
        promptable=described.get("promptable"),
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
        download=DownloadResponse.of(snapshot.download) if snapshot.download else None,
    )


def _without_folder(hf_model: str) -> str:
    """A hub name as it is; of a path on this machine only what names the model."""
    return hf_model.rstrip("/").rpartition("/")[2] if hf_model.startswith(("/", ".", "~")) else hf_model
