"""Everything a client can be told went wrong: one class per error code.

    ServiceError
    ├── InvalidRequest          400  INVALID_REQUEST
    ├── Unauthorized            401  UNAUTHORIZED
    ├── Forbidden               403  FORBIDDEN
    ├── CrawlBlocked            403  CRAWL_BLOCKED
    ├── NotFound                404  NOT_FOUND
    ├── ModelNotFound           404  MODEL_NOT_FOUND
    ├── MethodNotAllowed        405  METHOD_NOT_ALLOWED
    ├── Conflict                409  CONFLICT
    ├── ModelNotLoaded          409  MODEL_NOT_LOADED
    ├── PayloadTooLarge         413  PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType    415  UNSUPPORTED_MEDIA_TYPE
    ├── RateLimitExceeded       429  RATE_LIMIT_EXCEEDED
    ├── HeadersTooLarge         431  HEADERS_TOO_LARGE
    ├── InternalError           500  INTERNAL_ERROR
    ├── InferenceFailed         500  INFERENCE_FAILED
    ├── CrawlFailed             502  CRAWL_FAILED
    ├── ModelLoadFailed         503  MODEL_LOAD_FAILED
    ├── ResourceExhausted       503  RESOURCE_EXHAUSTED
    └── RequestTimeout          504  TIMEOUT

Any layer raises these; only `api.envelope` turns them into an answer. A class's docstring is what the OpenAPI
document says about its code, so it is written for the person who calls the API.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of all errors that a client may see.

    `message` is one sentence for a person; `details` is the same for a program. Neither may hold a secret, a
    traceback or a path of the host.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    example_details: ClassVar[Mapping[str, Any]] = {}
    """What `details` may hold, for the documentation."""

    def __init__(
        self, message: str, *, details: Mapping[str, Any] | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to this answer whatever the route."""
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


class InvalidRequest(ServiceError):
    """The request is malformed. `details.errors` names each wrong field and what was expected."""

    code = "INVALID_REQUEST"
    status = 400
    example_details: ClassVar[Mapping[str, Any]] = {"errors": [{"field": "texts", "message": "is required"}]}

    @classmethod
    def at(cls, field: str, problem: str) -> "InvalidRequest":
        """One wrong field: where it stands (`texts[3]`) and what is wrong with it, remedy included."""
        return cls(f"{field}: {problem}", details={"errors": [{"field": field, "message": problem}]})


class Unauthorized(ServiceError):
    """No valid API key came with the request. Send `Authorization: Bearer <api-key>`."""

    code = "UNAUTHORIZED"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that RFC 9110 section 15.5.2 requires."""
        return {**super().headers, "WWW-Authenticate": 'Bearer realm="homelab-ai"'}


class Forbidden(ServiceError):
    """The caller is known, or the address is, but is not allowed to do this."""

    code = "FORBIDDEN"
    status = 403
    example_details: ClassVar[Mapping[str, Any]] = {"scope": "embed"}


class CrawlBlocked(ServiceError):
    """The address, of a page or an image, or one that it leads to, may not be fetched. `details.reason` says why."""

    code = "CRAWL_BLOCKED"
    status = 403
    example_details: ClassVar[Mapping[str, Any]] = {"reason": "its address is private"}


class NotFound(ServiceError):
    """Nothing is served at this path, or nothing has the name in it."""

    code = "NOT_FOUND"
    status = 404


class ModelNotFound(ServiceError):
    """No model of that name is configured. `details.available_models` lists those that can be asked for."""

    code = "MODEL_NOT_FOUND"
    status = 404
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "nonexistent", "available_models": ["minilm"]}


class MethodNotAllowed(ServiceError):
    """The path exists, but not for this method. The `Allow` header lists the methods it takes."""

    code = "METHOD_NOT_ALLOWED"
    status = 405

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message, details={"allow": allow})
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        """The list that RFC 9110 section 15.5.6 requires."""
        return {**super().headers, "Allow": self.allow}


class Conflict(ServiceError):
    """What was asked for does not go together with what there is. The message says with what."""

    code = "CONFLICT"
    status = 409
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "minilm"}


class ModelNotLoaded(ServiceError):
    """The model is there but disabled. `details.available_models` lists those that can be asked for."""

    code = "MODEL_NOT_LOADED"
    status = 409
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "mpnet", "available_models": ["minilm"]}


class PayloadTooLarge(ServiceError):
    """The body is larger than `limits.max_body_mb` allows. `details.max_bytes` is the limit."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    example_details: ClassVar[Mapping[str, Any]] = {"max_bytes": 67108864}


class UnsupportedMediaType(ServiceError):
    """The body is of a type that this route does not read."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    example_details: ClassVar[Mapping[str, Any]] = {"content_type": "text/plain"}


class RateLimitExceeded(ServiceError):
    """Too many requests, or too many wrong keys, came in too short a time. Try again after `Retry-After` seconds."""

    code = "RATE_LIMIT_EXCEEDED"
    status = 429
    example_details: ClassVar[Mapping[str, Any]] = {"rate_limit": "600/minute", "retry_after_seconds": 12}


class HeadersTooLarge(ServiceError):
    """The request's address and headers are larger, or the headers are more, than `details` says may be."""

    code = "HEADERS_TOO_LARGE"
    status = 431
    example_details: ClassVar[Mapping[str, Any]] = {"max_bytes": 32768, "max_headers": 100}


class InternalError(ServiceError):
    """A fault of the service itself. The log holds the cause under the same `request_id`."""

    code = "INTERNAL_ERROR"
    status = 500


class InferenceFailed(ServiceError):
    """The model could not answer, a fresh process included; `details.texts` holds the positions it failed on."""

    code = "INFERENCE_FAILED"
    status = 500
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "minilm", "texts": [3]}


class CrawlFailed(ServiceError):
    """A page or an image could not be fetched: its server was not found, has refused it, or broke off."""

    code = "CRAWL_FAILED"
    status = 502


class ModelLoadFailed(ServiceError):
    """The model could not be started. The message says why and what mends it, `Retry-After` when it is tried again."""

    code = "MODEL_LOAD_FAILED"
    status = 503
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "minilm"}


class ResourceExhausted(ServiceError):
    """The service cannot take this work now. Try again after `Retry-After` seconds."""

    code = "RESOURCE_EXHAUSTED"
    status = 503


class RequestTimeout(ServiceError):
    """The answer was not ready within `resources.request_timeout_seconds`."""

    code = "TIMEOUT"
    status = 504
    example_details: ClassVar[Mapping[str, Any]] = {"model_id": "minilm", "timeout_seconds": 120}
