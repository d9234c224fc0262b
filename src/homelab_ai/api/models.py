"""`GET /api/models` and `GET /api/models/{id}`: which models there are, and what each is doing."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from homelab_ai.api.access import needs
from homelab_ai.api.documents import errors
from homelab_ai.api.services import services_of
from homelab_ai.errors import ModelNotFound
from homelab_ai.models.catalogue import Kind
from homelab_ai.models.registry import ModelState, Snapshot

router = APIRouter(prefix="/api/models", tags=["Models"], dependencies=[needs("read")])


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
        description="`available`: not loaded; if enabled, it will be when it is asked for. `failed`: could not be "
        "loaded the last time."
    )
    dimensions: int | None = Field(description="Length of its vectors, as configured or, once loaded, as measured.")
    backend: str | None = Field(description="What runs it. Known once it has been loaded, as are the next three.")
    device: str | None
    precision: str | None
    max_length: int | None = Field(description="Its window in tokens: longer texts are cut.")
    loads: int = Field(description="How often it has been loaded since the service started.")
    load_seconds: float | None = Field(description="How long the last load took.")
    failure: str | None = Field(description="Why it could not be loaded, when that is its state.")


class ModelsResponse(BaseModel):
    """Every configured model, in the order of the configuration."""

    models: list[ModelResponse]


@router.get("", summary="List models", responses=errors())
async def list_models(request: Request) -> ModelsResponse:
    """List every configured model, enabled or not."""
    registry = services_of(request.scope)["models"]
    return ModelsResponse(models=[_response(registry.snapshot(model)) for model in registry.catalogue])


@router.get("/{model_id:path}", summary="Show one model", responses=errors(ModelNotFound))
async def show_model(request: Request, model_id: str) -> ModelResponse:
    """Show one model. It may be named as in a request: by id, alias or hub name."""
    registry = services_of(request.scope)["models"]
    return _response(registry.snapshot(registry.catalogue.get(model_id)))


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
        loads=snapshot.loads,
        load_seconds=snapshot.load_seconds and round(snapshot.load_seconds, 3),
        failure=snapshot.failure,
    )


def _without_folder(hf_model: str) -> str:
    """A hub name as it is; of a path on this machine only what names the model."""
    return hf_model.rstrip("/").rpartition("/")[2] if hf_model.startswith(("/", ".", "~")) else hf_model
