"""What several contract tests share: the service with settings of their own, and the shape of every error."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.testclient import TestClient

from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from support.hosts import FakeHosts


class Response(Protocol):
    """What these tests need of an answer, whichever client brought it."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...


@contextmanager
def serving(
    settings: Settings, hosts: FakeHosts | None = None, *, peer: str = "127.0.0.1", **changed: dict[str, Any]
) -> Iterator[TestClient]:
    """The whole service with some sections of its settings changed, called from `peer`."""
    whole = Settings.model_validate({**settings.model_dump(), **changed})
    app = create_app(whole, start_host=hosts or FakeHosts())
    with TestClient(app, base_url="http://localhost", client=(peer, 50000)) as client:
        yield client


def refused(response: Response, status: int, code: str) -> dict[str, Any]:
    """Return the error in an answer, once its shape has been checked to the last key."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert answer.keys() == {"error"}
    error: dict[str, Any] = answer["error"]
    assert error.keys() == {"code", "message", "request_id", "details"}
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in response.text
    return error


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as it is usually written."""
    return str(uuid.UUID(text)) == text


def key_entry(name: str, key: str, *scopes: str, **more: object) -> dict[str, Any]:
    """An entry of `security.api_keys` for this key."""
    return {"name": name, "key_hash": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes, **more}


def bearer(key: str) -> dict[str, str]:
    """The header that brings this key."""
    return {"Authorization": f"Bearer {key}"}
