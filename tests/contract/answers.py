"""What several contract tests share: the service with settings of their own, and the shape of every error."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
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


@contextmanager
def asking(client: TestClient, held_by: asyncio.Event) -> Iterator[tuple[ThreadPoolExecutor, Callable[[], None]]]:
    """Threads for requests beside the test, and what lets those go on that this event holds up.

    They go on at the end in any case: an assertion that fails meanwhile would else wait for them, and never be seen.
    """
    assert client.portal
    go_on = partial(client.portal.call, held_by.set)
    with ThreadPoolExecutor() as pool:
        try:
            yield pool, go_on
        finally:
            go_on()


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
