"""Requests made up from the OpenAPI document, right and wrong ones: each is answered as the document says."""

import os
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from contract.answers import bearer, key_entry, serving
from homelab_ai.api.keys import ALL_SCOPES
from homelab_ai.app import create_app
from homelab_ai.settings import Settings

EXAMPLES = int(os.environ.get("HOMELAB_AI_TEST_EXAMPLES", "15"))
SCHEMA = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
OPERATIONS: dict[str, Any] = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}  # type: ignore[union-attr]
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def cases(operation: Any, mode: GenerationMode) -> st.SearchStrategy[Case[Any]]:
    """Requests for an operation: on models that there are, and on whatever else a path may name."""
    anything: st.SearchStrategy[Case[Any]] = operation.as_strategy(mode)
    if "{model_id}" not in operation.path:
        return anything
    known: list[st.SearchStrategy[Case[Any]]] = [
        operation.as_strategy(mode, path_parameters={"model_id": name}) for name in ("minilm", "mpnet", "blip-base")
    ]
    return st.one_of(anything, *known)


def encoded(header: tuple[str, str | bytes]) -> tuple[bytes, bytes]:
    name, value = header
    return name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")


def sent(client: TestClient, case: Case[Any], headers: dict[str, str]) -> None:
    """Send a request as it was made up, but for these headers; fail unless the answer is one that is documented."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    made_up = {name.lower(): value for name, value in prepared.headers.items() if name != "Connection"}
    given = {**made_up, **{name.lower(): value for name, value in headers.items()}}
    body = prepared.body
    assert prepared.method
    assert prepared.url
    assert body is None or isinstance(body, str | bytes)
    response = client.request(prepared.method, prepared.url, headers=[*map(encoded, given.items())], content=body)
    assert response.status_code < 500, response.text
    case.validate_response(response, checks=CHECKS)


def tried(client: TestClient, operation: Any, mode: GenerationMode, headers: dict[str, str]) -> None:
    assert client.portal
    client.portal.call(client.app_state["stopping"].set)  # or a stream would never end

    @examples(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=cases(operation, mode))
    def attempt(case: Case[Any]) -> None:
        sent(client, case, headers)

    attempt()


@every_operation
@pytest.mark.timeout(60 + EXAMPLES)
def test_with_a_key(settings: Settings, operation: Any) -> None:
    modes = [GenerationMode.POSITIVE]
    if operation.path.startswith("/api/"):  # nothing can be wrong with a request to a probe
        modes.append(GenerationMode.NEGATIVE)
    keys = [key_entry("all", "all", *ALL_SCOPES)]
    for mode in modes:
        with serving(settings, peer="192.168.1.7", security={"api_keys": keys}) as client:
            tried(client, operation, mode, bearer("all"))


@every_operation
@pytest.mark.timeout(60 + EXAMPLES)
def test_without_one(settings: Settings, operation: Any) -> None:
    keys = [key_entry("all", "all", *ALL_SCOPES)]
    with serving(settings, peer="192.168.1.7", security={"api_keys": keys}) as client:
        tried(client, operation, GenerationMode.POSITIVE, {})
