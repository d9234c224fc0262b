"""The OpenAPI document and its page: complete, true to the routes, and without a word to any other host."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from contract.answers import serving
from homelab_ai.api.caption import CaptionResponse
from homelab_ai.api.documents import ErrorEnvelope
from homelab_ai.api.embed import EmbedRequest, EmbedResponse
from homelab_ai.api.health import Alive, Ready
from homelab_ai.api.key_routes import AddKeyRequest, KeyResponse, KeysResponse, NewKeyResponse
from homelab_ai.api.models import (
    AddModelRequest,
    ChangeModelRequest,
    DownloadResponse,
    ModelResponse,
    ModelsResponse,
    RemovedModelResponse,
)
from homelab_ai.api.status import StatusResponse
from homelab_ai.api.whoami import WhoamiResponse
from homelab_ai.settings import Settings

COMMON = {"UNAUTHORIZED": 401, "FORBIDDEN": 403, "RATE_LIMIT_EXCEEDED": 429, "INTERNAL_ERROR": 500}
BODY = {"INVALID_REQUEST": 400, "PAYLOAD_TOO_LARGE": 413, "UNSUPPORTED_MEDIA_TYPE": 415, "TIMEOUT": 504}
CODES: dict[tuple[str, str], dict[str, int]] = {
    ("post", "/api/embed"): {
        **COMMON,
        **BODY,
        "MODEL_NOT_FOUND": 404,
        "CONFLICT": 409,
        "MODEL_NOT_LOADED": 409,
        "INFERENCE_FAILED": 500,
        "MODEL_LOAD_FAILED": 503,
        "RESOURCE_EXHAUSTED": 503,
    },
    ("post", "/api/caption"): {
        **COMMON,
        **BODY,
        "CRAWL_BLOCKED": 403,
        "CRAWL_FAILED": 502,
        "MODEL_NOT_FOUND": 404,
        "MODEL_NOT_LOADED": 409,
        "INFERENCE_FAILED": 500,
        "MODEL_LOAD_FAILED": 503,
        "RESOURCE_EXHAUSTED": 503,
    },
    ("get", "/api/models"): COMMON,
    ("post", "/api/models"): {**COMMON, **BODY, "CONFLICT": 409, "RESOURCE_EXHAUSTED": 503},
    ("get", "/api/models/{model_id}"): {**COMMON, "MODEL_NOT_FOUND": 404},
    ("patch", "/api/models/{model_id}"): {**COMMON, **BODY, "MODEL_NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 503},
    ("delete", "/api/models/{model_id}"): {
        **COMMON,
        "INVALID_REQUEST": 400,
        "MODEL_NOT_FOUND": 404,
        "CONFLICT": 409,
        "RESOURCE_EXHAUSTED": 503,
        "TIMEOUT": 504,
    },
    ("post", "/api/models/{model_id}/pull"): {**COMMON, "MODEL_NOT_FOUND": 404, "CONFLICT": 409},
    ("get", "/api/models/{model_id}/pull"): {**COMMON, "MODEL_NOT_FOUND": 404, "CONFLICT": 409},
    ("post", "/api/models/{model_id}/load"): {
        **COMMON,
        "MODEL_NOT_FOUND": 404,
        "MODEL_NOT_LOADED": 409,
        "MODEL_LOAD_FAILED": 503,
        "RESOURCE_EXHAUSTED": 503,
        "TIMEOUT": 504,
    },
    ("post", "/api/models/{model_id}/unload"): {**COMMON, "MODEL_NOT_FOUND": 404},
    ("get", "/api/keys"): COMMON,
    ("post", "/api/keys"): {**COMMON, **BODY, "CONFLICT": 409, "RESOURCE_EXHAUSTED": 503},
    ("delete", "/api/keys/{name}"): {
        **COMMON,
        "INVALID_REQUEST": 400,
        "NOT_FOUND": 404,
        "CONFLICT": 409,
        "RESOURCE_EXHAUSTED": 503,
    },
    ("post", "/api/crawl"): {
        **COMMON,
        **BODY,
        "CRAWL_BLOCKED": 403,
        "CRAWL_FAILED": 502,
        "MODEL_LOAD_FAILED": 503,
        "RESOURCE_EXHAUSTED": 503,
    },
    ("get", "/api/status"): COMMON,
    ("get", "/api/stream"): {**COMMON, "RESOURCE_EXHAUSTED": 503},
    ("get", "/api/whoami"): COMMON,
    ("get", "/metrics"): COMMON,
    ("get", "/health"): {},
    ("get", "/ready"): {"INTERNAL_ERROR": 500, "RESOURCE_EXHAUSTED": 503},
}
SUCCESS = {
    ("post", "/api/models"): "201",
    ("post", "/api/models/{model_id}/pull"): "202",
    ("post", "/api/keys"): "201",
    ("delete", "/api/keys/{name}"): "204",
}
OTHER_THAN_JSON = {
    ("get", "/api/models/{model_id}/pull"): "text/event-stream",
    ("get", "/api/stream"): "text/event-stream",
    ("get", "/metrics"): "text/plain",
    ("delete", "/api/keys/{name}"): None,
}
MODELS: tuple[type[BaseModel], ...] = (
    AddKeyRequest,
    AddModelRequest,
    Alive,
    CaptionResponse,
    ChangeModelRequest,
    DownloadResponse,
    EmbedRequest,
    EmbedResponse,
    ErrorEnvelope,
    KeyResponse,
    KeysResponse,
    ModelResponse,
    ModelsResponse,
    NewKeyResponse,
    Ready,
    RemovedModelResponse,
    StatusResponse,
    WhoamiResponse,
)
every_operation = pytest.mark.parametrize(("method", "path"), CODES, ids=map(" ".join, CODES))


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(inner)


def test_the_document_is_of_the_version_it_says(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    assert document["info"]["title"] == "homelab-ai-api"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", document["info"]["version"])
    assert document["info"]["description"].strip()


def test_it_describes_exactly_these_operations(document: dict[str, Any]) -> None:
    methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    described = {(method, path) for path, item in document["paths"].items() for method in item.keys() & methods}
    assert described == CODES.keys()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)]
    assert references
    for reference in references:
        node = document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            node = node[step.replace("~1", "/").replace("~0", "~")]


def test_every_schema_is_used_and_says_what_it_is(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    used = {node["$ref"].rpartition("/")[2] for node in walk(document) if isinstance(node.get("$ref"), str)}
    assert used == schemas.keys()
    undescribed = [name for name, schema in schemas.items() if not schema.get("description")]
    assert undescribed == []


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [node["operationId"] for node in walk(document["paths"]) if "operationId" in node]
    assert len(ids) == len(set(ids)) == len(CODES)


@every_operation
def test_an_operation_says_what_it_does(document: dict[str, Any], method: str, path: str) -> None:
    operation = document["paths"][path][method]
    for field in ("summary", "description", "tags", "operationId"):
        assert operation[field]
    success = operation["responses"][SUCCESS.get((method, path), "200")]
    if (method, path) in OTHER_THAN_JSON:
        media_type = OTHER_THAN_JSON[method, path]
        assert success.get("content", {}).keys() == ({media_type} if media_type else set())
    else:
        assert success["content"]["application/json"]["schema"]["$ref"]


@every_operation
def test_an_operation_lists_every_error_that_it_can_answer(document: dict[str, Any], method: str, path: str) -> None:
    responses = document["paths"][path][method]["responses"]
    codes = CODES[method, path]
    success = SUCCESS.get((method, path), "200")
    assert sorted(responses) == sorted({success, *map(str, codes.values())})
    for status, response in responses.items():
        due = {code for code, of in codes.items() if str(of) == status}
        assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`:", response["description"])) == due
        if (method, path) in OTHER_THAN_JSON and status == success:
            continue
        content = response["content"]["application/json"]
        assert content.get("examples", {}).keys() == due
        for code, example in content.get("examples", {}).items():
            assert ErrorEnvelope.model_validate(example["value"], strict=True).error.code == code


@every_operation
def test_an_operation_that_needs_a_key_says_so(document: dict[str, Any], method: str, path: str) -> None:
    operation = document["paths"][path][method]
    needs_key = path.startswith("/api/") or path == "/metrics"
    assert bool(operation.get("security")) is needs_key
    for requirement in operation.get("security", []):
        for name in requirement:
            assert document["components"]["securitySchemes"][name]["scheme"] == "bearer"


def test_examples_are_valid(document: dict[str, Any]) -> None:
    checked = 0
    for model in MODELS:
        schema = document["components"]["schemas"][model.__name__]
        for example in [*schema.get("examples", []), *([schema["example"]] if "example" in schema else [])]:
            model.model_validate(example)
            checked += 1
        for name, field in schema["properties"].items():
            for example in field.get("examples", []):
                model.__pydantic_validator__.validate_assignment(model.model_construct(), name, example)
                checked += 1
    assert checked >= 4


def test_the_example_of_a_request_is_answered(client: TestClient, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    answer = client.post("/api/embed", json=schemas["EmbedRequest"]["example"])
    assert answer.status_code == 200
    assert answer.json().keys() == schemas["EmbedResponse"]["example"].keys()
    EmbedResponse.model_validate(answer.json(), strict=True)
    ModelsResponse.model_validate(client.get("/api/models").json(), strict=True)


def test_it_promises_nothing_that_is_refused(client: TestClient, document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["AddModelRequest"]["properties"].keys()
    wrong = client.post("/api/models", json={"type": "text_embedding", "id": "x", "hf_model": "o/x", "prompts": {}})
    assert wrong.status_code == 400
    assert fields == AddModelRequest.model_fields.keys() - {"prompts"}


def test_the_document_tells_nothing_of_this_machine(settings: Settings, document: dict[str, Any]) -> None:
    assert str(settings.data_dir) not in str(document)
    assert "servers" not in document


LINK = re.compile(r"""(?:src|href|url|Url|URL)\s*[=:]\s*["']([^"']+)["']""")


@pytest.mark.parametrize("prefix", ["", "/ai"])
def test_the_page_uses_only_what_is_served_here(settings: Settings, prefix: str) -> None:
    with serving(settings, server={"root_path": prefix}) as client:
        page = client.get(f"{prefix}/docs")
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        assert not re.search(r"""https?://|["']//""", page.text)
        links = LINK.findall(page.text)
        assert len(links) >= 4
        for link in links:
            assert re.match(rf"{prefix}/[^/]", link), link
            assert client.get(link).status_code == 200, link


def test_the_assets_load_nothing_from_elsewhere(client: TestClient) -> None:
    styles = client.get("/docs/assets/swagger-ui.css")
    assert styles.headers["Content-Type"].startswith("text/css")
    assert not re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//", styles.text)
    script = client.get("/docs/assets/swagger-ui-bundle.js")
    assert "javascript" in script.headers["Content-Type"]
    assert len(script.content) > 100_000
