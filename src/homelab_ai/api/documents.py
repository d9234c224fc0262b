"""How routes describe themselves in the OpenAPI document: every error that each can answer, with an example."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, Field

from homelab_ai.api.access import PROBES, Needs
from homelab_ai.errors import (
    Forbidden,
    InferenceFailed,
    InternalError,
    InvalidRequest,
    ModelLoadFailed,
    ModelNotFound,
    ModelNotLoaded,
    PayloadTooLarge,
    RateLimitExceeded,
    RequestTimeout,
    ResourceExhausted,
    ServiceError,
    Unauthorized,
    UnsupportedMediaType,
)

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key. The first start prints one; `POST /api/keys` and `security.api_keys` make others. "
    "Clients that know only `Basic` may send it as the password, with any user name.",
}

READING: tuple[type[ServiceError], ...] = (InvalidRequest, PayloadTooLarge, UnsupportedMediaType, RequestTimeout)
"""What a route answers that reads a body."""
INFERENCE = (*READING, ModelNotFound, ModelNotLoaded, ModelLoadFailed, InferenceFailed, ResourceExhausted)
"""What a route answers that has a model work on it."""

_EVERYWHERE: tuple[type[ServiceError], ...] = (Unauthorized, Forbidden, RateLimitExceeded, InternalError)


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="One of the documented codes; stable, for programs.")
    message: str = Field(description="One sentence for a person.")
    request_id: str = Field(description="The request's id, as in the log and in X-Request-ID.")
    details: dict[str, Any] = Field(description="The same for programs; what is in it depends on the code.")


class ErrorEnvelope(BaseModel):
    """The shape of every error."""

    error: ErrorBody


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, without the answers that FastAPI takes for granted and this service never gives."""
    if not app.openapi_schema:
        document = FastAPI.openapi(app)
        scopes = _scopes_by_operation(app)
        document["components"]["securitySchemes"] = {"API key": _BEARER}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # a malformed request is a 400 here
                if path not in PROBES:
                    operation["security"] = [{"API key": scopes[operation["operationId"]]}]
        for schema in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(schema, None)
    assert app.openapi_schema
    return app.openapi_schema


def _scopes_by_operation(app: FastAPI) -> dict[str, list[str]]:
    """The scopes that each operation needs: roles, as OpenAPI 3.1 calls them (Security Requirement Object)."""
    scopes: dict[str, list[str]] = {}
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            asked = (dependency.dependency for dependency in route.dependencies)
            scopes[route.unique_id] = [each.scope for each in asked if isinstance(each, Needs)]
    return scopes


def errors(
    *specific: type[ServiceError], everywhere: tuple[type[ServiceError], ...] = _EVERYWHERE
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can answer these errors, and those that every route can."""
    documented: dict[int | str, dict[str, Any]] = {}
    for error in sorted((*specific, *everywhere), key=lambda error: error.status):
        response = documented.setdefault(
            error.status,
            {"model": ErrorEnvelope, "description": "", "content": {"application/json": {"examples": {}}}},
        )
        summary = (error.__doc__ or "").strip()
        response["description"] += f"{' ' if response['description'] else ''}`{error.code}`: {summary}"
        response["content"]["application/json"]["examples"][error.code] = {"value": _example(error)}
    return documented


def _example(error: type[ServiceError]) -> dict[str, Any]:
    return {
        "error": {
            "code": error.code,
            "message": (error.__doc__ or "").strip().partition(". ")[0].rstrip("."),
            "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
            "details": error.example_details,
        }
    }
