"""`GET /health` and `GET /ready`: what an orchestrator asks. Open to everyone."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request

from homelab_ai.api.documents import errors
from homelab_ai.api.services import services_of
from homelab_ai.errors import InternalError, ResourceExhausted
from homelab_ai.state import StateError

router = APIRouter(tags=["Health"])


class Alive(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The process can take work."""

    status: Literal["ready"] = "ready"


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Is it alive?")
async def health() -> Alive:
    """Liveness: answered as long as the process can answer anything. Touches nothing else."""
    return Alive()


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Can it take work?", responses=errors(ResourceExhausted, everywhere=(InternalError,)))
async def ready(request: Request) -> Ready:
    """Readiness: the configuration is valid and the state can be used.

    A model that fails is that model's state, seen in `/api/models`, and not the service's.
    """
    try:
        services_of(request.scope)["state"].check()
    except StateError as error:
        raise ResourceExhausted(str(error), retry_after_seconds=5) from error
    return Ready()
