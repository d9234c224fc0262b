"""Errors as answers: the one place where an error becomes a status, headers and a JSON body.

    {"error": {"code": "MODEL_NOT_FOUND", "message": "...", "request_id": "...", "details": {...}}}

FastAPI's and Starlette's own errors are translated into ours first, so there is no second shape.
"""

from typing import Any, NoReturn

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.errors import InternalError, InvalidRequest, MethodNotAllowed, NotFound, ServiceError

_ERRORS_SHOWN = 10
"""Thousands of wrong items are told about by the first ones."""


def error_response(error: ServiceError, request_id: str) -> Response:
    """Write an error in the envelope."""
    content = {"code": error.code, "message": error.message, "request_id": request_id, "details": error.details}
    return Response(orjson.dumps({"error": content}), error.status, error.headers, media_type="application/json")


def translate_http_exception(request: Request, error: Exception) -> NoReturn:
    """Raise our error for one that the router raised. An exception handler, as Starlette calls them."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            raise NotFound(f"Nothing is served at {path}; /docs lists what is") from error
        case 405:
            allow = _methods_taken(request) or (error.headers or {}).get("Allow", "")
            raise MethodNotAllowed(f"{path} does not take {request.method}, only {allow}", allow=allow) from error
        case _:
            raise InternalError("The service could not answer this request") from error


def _methods_taken(request: Request) -> str:
    """All methods that this path takes. Starlette would name those of one route only."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if context.methods and context.path_regex.match(path):
            methods |= context.methods
    return ", ".join(sorted(methods))


def translate_validation_error(request: Request, error: Exception) -> NoReturn:  # noqa: ARG001 - Starlette's signature
    """Raise our error for what pydantic found wrong with a request. An exception handler."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    problems = [{"field": _field(problem["loc"]), "message": _message(problem)} for problem in found[:_ERRORS_SHOWN]]
    first = problems[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    details = {"errors": problems, "error_count": len(found)}
    raise InvalidRequest(f"{first['field']}: {first['message']}{more}", details=details) from error


def _field(location: tuple[str | int, ...]) -> str:
    """`("body", "texts", 3)` -> `texts[3]`."""
    _, *steps = location
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return path.lstrip(".")[:200] or "body"


def _message(problem: dict[str, Any]) -> str:
    kind = type(problem.get("input")).__name__
    got = {"NoneType": "null", "dict": "an object", "list": "a list", "str": "a string", "bool": "a boolean"}.get(
        kind, "a number"
    )
    match problem["type"]:
        case "missing":
            return "is required"
        case "string_type":
            return f"expected a string, got {got}"
        case "list_type" | "tuple_type":
            return f"expected a list, got {got}"
        case "literal_error":
            return f"expected {problem['ctx']['expected']}"
        case "model_attributes_type" | "model_type" | "dict_type":
            return f"expected a JSON object, got {got}"
        case _:
            return str(problem["msg"])
