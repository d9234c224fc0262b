"""`/api/keys`: the API keys that there are, and how they are made and revoked while the service runs."""

import logging
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api import keys
from homelab_ai.api.access import needs
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import READING, errors
from homelab_ai.api.keys import KeyEntry, KeyRing
from homelab_ai.api.reading import JsonRoute, RequestBody
from homelab_ai.api.services import services_of
from homelab_ai.errors import Conflict, InvalidRequest, NotFound, ResourceExhausted
from homelab_ai.settings import ALL_BUT_ADMIN
from homelab_ai.settings.values import Label, RateLimit, Scope, Some, Text
from homelab_ai.state import State

log = logging.getLogger(__name__)

router = APIRouter(route_class=JsonRoute, prefix="/api/keys", tags=["Keys"])


class KeyResponse(BaseModel):
    """One API key, without the key itself."""

    name: str = Field(description="Who uses it.", examples=["photo-album"])
    scopes: list[str] = Field(description="What it may do.")
    models: list[str] | None = Field(description="Ids of the models it may use; null: all of them.")
    rate_limit: str | None = Field(description="Its own limit; null: that of `security.rate_limit`, if any.")
    crawl_allow_networks: list[str] = Field(
        description="Networks at home that it may crawl, beside those of `crawl.allow_networks`."
    )
    source: Literal["config", "state"] = Field(
        description="`config`: stands in config.yaml, and can only be removed there. `state`: made at run time."
    )
    created_at: datetime | None = Field(description="When it was made; null for a key of config.yaml.")
    last_used_at: datetime | None = Field(
        description="When it was last shown; null if not since the service started, for this is not stored."
    )

    @classmethod
    def of(cls, entry: KeyEntry) -> Self:
        """Tell what may be told of it."""
        identity = entry.identity
        return cls(
            name=identity.name,
            scopes=sorted(identity.scopes),
            models=None if identity.models is None else sorted(identity.models),
            rate_limit=identity.rate_limit,
            crawl_allow_networks=[str(network) for network in identity.crawl_networks],
            source=entry.source,
            created_at=_moment(entry.created_at),
            last_used_at=_moment(entry.last_used_at),
        )


class KeysResponse(BaseModel):
    """Every key: those of config.yaml in their order, then the others by age."""

    keys: list[KeyResponse]


class NewKeyResponse(KeyResponse):
    """A key that has just been made."""

    key: str = Field(description="The key itself. It is shown this once; what is kept is its hash.")


class AddKeyRequest(RequestBody):
    """A key to be made: its name, and what it opens, as in `security.api_keys`."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"example": {"name": "photo-album", "scopes": ["caption"], "models": None}}
    )

    name: Label = Field(description="Who will use it. No other key may have this name.")
    scopes: Some[Scope] = Field(
        default=ALL_BUT_ADMIN,
        description="What it may do: embed, caption, crawl, read (models, status, metrics), admin (change things).",
    )
    models: Some[Text] | None = Field(default=None, description="The models it may use, by id. null: all of them.")
    rate_limit: RateLimit | None = Field(
        default=None, description="Its own limit, such as 600/minute. null takes `security.rate_limit`."
    )


def make(ring: KeyRing, state: State, wanted: AddKeyRequest) -> NewKeyResponse:
    """Make that key. Raises `InvalidRequest`, and as `keys.make_key` does."""
    if wanted.name in {".", ".."}:
        raise InvalidRequest.at("name", "cannot stand in the path of a URL, by which it is revoked; choose another")
    key = keys.make_key(
        ring, state, wanted.name, set(wanted.scopes), models=wanted.models, rate_limit=wanted.rate_limit
    )
    entry = next(entry for entry in ring.entries() if entry.identity.name == wanted.name)
    return NewKeyResponse(key=key, **KeyResponse.of(entry).model_dump())


@router.get("", summary="List API keys", dependencies=[needs("admin")], responses=errors())
async def list_keys(request: Request) -> KeysResponse:
    """List every key, but neither the keys themselves nor their hashes."""
    ring = services_of(request.scope)["gate"].keys
    return KeysResponse(keys=[KeyResponse.of(entry) for entry in ring.entries()])


@router.post(
    "",
    status_code=201,
    summary="Make an API key",
    dependencies=[needs("admin")],
    responses=errors(*READING, Conflict, ResourceExhausted),
)
async def add_key(request: Request, response: Response, body: Annotated[AddKeyRequest, Body()]) -> NewKeyResponse:
    """Make a key that opens the service from now on, and after every restart. The answer is the only one to show it."""
    services = services_of(request.scope)
    response.headers["Cache-Control"] = "no-store"
    made = make(services["gate"].keys, services["state"], body)
    scopes = " ".join(made.scopes)
    log.info("the key %r (%s) was made by %r", made.name, scopes, context_of(request.scope).identity.name)
    return made


@router.delete(
    "/{name:path}",
    status_code=204,
    summary="Revoke an API key",
    dependencies=[needs("admin")],
    responses=errors(InvalidRequest, NotFound, Conflict, ResourceExhausted),
)
async def remove_key(
    request: Request,
    name: str,
    *,
    force: Annotated[bool, Query(description="Remove even the last key with the scope admin.")] = False,
) -> None:
    """Revoke a key that was made at run time: whoever shows it from now on is refused. What is at work is finished."""
    services = services_of(request.scope)
    keys.remove_key(services["gate"].keys, services["state"], name, force=force)
    log.info("the key %r was revoked by %r", name, context_of(request.scope).identity.name)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
