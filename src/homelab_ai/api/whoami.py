"""`GET /api/whoami`: whom the service takes the caller for."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from homelab_ai.api.context import context_of
from homelab_ai.api.documents import errors
from homelab_ai.api.keys import Authentication

router = APIRouter(tags=["Monitoring"])


class WhoamiResponse(BaseModel):
    """Who is asking, and what they may do."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "photo-album",
                "scopes": ["caption", "embed"],
                "models": ["blip-base", "minilm"],
                "authenticated_by": "key",
            }
        }
    )

    name: str = Field(description="The name of the key, or of the network.")
    scopes: list[str] = Field(description="What they may do.")
    models: list[str] | None = Field(description="Ids of the models that they may use; null: all of them.")
    authenticated_by: Authentication = Field(
        description="What says so: the `key`, the address (one of a `network` of `security.networks`, or `localhost` "
        "with `security.allow_localhost`), or `nobody` where `security.auth_enabled` is off."
    )


@router.get("/api/whoami", summary="Who am I?", responses=errors())
async def whoami(request: Request) -> WhoamiResponse:
    """Tell a caller whom it is taken for, whatever it may do: whether it needs a key, or has the right one."""
    identity = context_of(request.scope).identity
    return WhoamiResponse(
        name=identity.name,
        scopes=sorted(identity.scopes),
        models=None if identity.models is None else sorted(identity.models),
        authenticated_by=identity.authenticated_by,
    )
