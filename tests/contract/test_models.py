"""`GET /api/models` and `GET /api/models/{id}`: what is told of each model, in each of its states, and what is not."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.answers import refused, serving
from homelab_ai.app import create_app
from homelab_ai.models.hosts.host import HostLoadFailed
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import DIMENSIONS, FINGERPRINT, FakeHosts

UNLOADED = dict.fromkeys(
    ("backend", "backend_reason", "device", "precision", "max_length", "fingerprint", "promptable")
)
MINILM: dict[str, Any] = {
    "id": "minilm",
    "type": "text_embedding",
    "hf_model": "sentence-transformers/all-MiniLM-L6-v2",
    "revision": None,
    "aliases": [],
    "enabled": True,
    "default": True,
    "state": "available",
    "dimensions": 384,
    **UNLOADED,
    "pinned": False,
    "keep_alive_seconds": 1800,
    "idle_seconds": None,
    "unloads_in_seconds": None,
    "memory_bytes": 0,
    "gpu_memory_bytes": 0,
    "requests": 0,
    "active_requests": 0,
    "loads": 0,
    "load_seconds": None,
    "failure": None,
    "retry_in_seconds": None,
    "download": None,
}
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


def test_the_list_holds_every_model_of_the_configuration(client: TestClient) -> None:
    response = client.get("/api/models")
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"models"}
    assert [(model["id"], model["type"], model["enabled"], model["default"]) for model in answer["models"]] == [
        ("blip-base", "image_caption", True, True),
        ("llava", "image_caption", False, False),
        ("minilm", "text_embedding", True, True),
        ("mpnet", "text_embedding", False, False),
    ]
    assert all(model.keys() == MINILM.keys() for model in answer["models"])
    assert answer["models"][2] == MINILM


def test_looking_loads_nothing(client: TestClient, hosts: FakeHosts) -> None:
    client.get("/api/models")
    client.get("/api/models/minilm")
    assert hosts.started == []


@pytest.mark.parametrize(
    "name",
    [
        "minilm",
        "MINILM",
        "my-alias",
        "openai/alias:v1",
        "openai%2Falias%3Av1",
        HUB_NAME,
        HUB_NAME.replace("/", "%2F"),
        HUB_NAME.upper(),
        "all-MiniLM-L6-v2",
    ],
)
def test_a_model_is_shown_by_each_of_its_names(settings: Settings, name: str) -> None:
    models = settings.models.model_dump()
    models["text_embedding"][0]["aliases"] = ["my-alias", "openai/alias:v1"]
    with serving(settings, models=models) as client:
        response = client.get(f"/api/models/{name}")
    assert response.status_code == 200
    assert response.json() == {**MINILM, "aliases": ["my-alias", "openai/alias:v1"]}


def test_a_disabled_model_is_shown(client: TestClient) -> None:
    answer = client.get("/api/models/llava").json()
    assert (answer["enabled"], answer["state"], answer["dimensions"]) == (False, "available", None)


@pytest.mark.parametrize(
    "name", ["nonexistent", "minilm/", "org/nonexistent", "", "*", "..%2Fminilm", "%E2%80%AE", "x" * 2000]
)
def test_an_unknown_model_is_answered_with_those_that_there_are(client: TestClient, name: str) -> None:
    error = refused(client.get(f"/api/models/{name}"), 404, "MODEL_NOT_FOUND")
    assert error["details"]["available_models"] == ["blip-base", "llava", "minilm", "mpnet"]
    assert len(error["details"]["model_id"]) <= 100


def test_a_loaded_model_tells_what_it_runs_on(client: TestClient) -> None:
    client.post("/api/embed", json={"texts": ["a"]})
    answer = client.get("/api/models/minilm").json()
    passing = [answer.pop(name) for name in ("load_seconds", "idle_seconds", "unloads_in_seconds")]
    assert passing[0] >= 0
    assert passing[1] + passing[2] == pytest.approx(1800)
    assert answer == {
        **{name: value for name, value in MINILM.items() if not name.endswith("_seconds") or value},
        "retry_in_seconds": None,
        "download": None,
        "requests": 1,
        "memory_bytes": 10_000_000,
        "state": "ready",
        "loads": 1,
        "backend": "fake",
        "device": "cpu",
        "precision": "float32",
        "max_length": 1000,
        "fingerprint": FINGERPRINT,
        "promptable": None,
        "dimensions": DIMENSIONS,
    }


def test_a_model_whose_host_has_died_is_available_again(client: TestClient, hosts: FakeHosts) -> None:
    client.post("/api/embed", json={"texts": ["a"]})
    hosts.started[0].kill()
    assert client.get("/api/models/minilm").json()["state"] == "available"
    client.post("/api/embed", json={"texts": ["a"]})
    answer = client.get("/api/models/minilm").json()
    assert (answer["state"], answer["loads"]) == ("ready", 2)


def test_a_model_that_could_not_be_loaded_says_why_until_it_is(settings: Settings, hosts: FakeHosts) -> None:
    clock = Clock()
    app = create_app(settings, hosts, clock)
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)) as client:
        hosts.on_start = lambda plan: HostLoadFailed("it has no weights")
        response = client.post("/api/embed", json={"texts": ["a"]})
        assert "it has no weights" in refused(response, 503, "MODEL_LOAD_FAILED")["message"]
        assert response.headers["Retry-After"] == "5"
        answer = client.get("/api/models/minilm").json()
        assert (answer["state"], answer["failure"], answer["loads"]) == ("failed", "it has no weights", 0)
        assert client.get("/ready").status_code == 200

        hosts.on_start = lambda plan: None
        refused(client.post("/api/embed", json={"texts": ["a"]}), 503, "MODEL_LOAD_FAILED")
        assert client.portal
        client.portal.call(clock.advance, 5)
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
        answer = client.get("/api/models/minilm").json()
        assert (answer["state"], answer["failure"], answer["loads"]) == ("ready", None, 1)


@pytest.mark.parametrize(
    "path", ["/srv/secret/mine", "/srv/secret/mine/", "./secret/mine", "~/secret/mine", "../secret/mine"]
)
def test_of_a_local_folder_only_the_last_part_is_shown(settings: Settings, path: str) -> None:
    models = {"text_embedding": [{"id": "local", "hf_model": path}]}
    with serving(settings, models=models) as client:
        answers = [client.get("/api/models"), client.get("/api/models/local"), client.get("/api/models/nope")]
        assert answers[1].json()["hf_model"] == "mine"
    assert not [answer.text for answer in answers if "secret" in answer.text]


def test_nothing_shows_where_models_and_state_are(settings: Settings, client: TestClient, tmp_path: Path) -> None:
    client.post("/api/embed", json={"texts": ["a"]})
    for path in ("/api/models", "/api/models/minilm", "/ready", "/health", "/openapi.json"):
        assert str(tmp_path) not in client.get(path).text


def test_a_model_is_loaded_and_unloaded_by_any_of_its_names(client: TestClient, hosts: FakeHosts) -> None:
    for name in ("minilm", HUB_NAME):
        answer = client.post(f"/api/models/{name}/load")
        assert (answer.status_code, answer.json()["state"], answer.json()["id"]) == (200, "ready", "minilm")
    assert (len(hosts.started), answer.json()["requests"], answer.json()["memory_bytes"]) == (1, 0, 10_000_000)
    for name in (HUB_NAME, "minilm"):
        answer = client.post(f"/api/models/{name}/unload")
        assert (answer.status_code, answer.json()["state"], answer.json()["memory_bytes"]) == (200, "available", 0)
    assert hosts.started[0].stopped


def test_loading_tells_what_stands_in_its_way(settings: Settings, hosts: FakeHosts) -> None:
    hosts.on_start = lambda plan: HostLoadFailed("it has no weights")
    with serving(settings, hosts, resources={"max_memory_gb": 0.1}) as client:
        error = refused(client.post("/api/models/minilm/load"), 503, "RESOURCE_EXHAUSTED")
        assert error["details"]["max_memory_bytes"] == int(0.1 * 1024**3)
        refused(client.post("/api/models/nope/load"), 404, "MODEL_NOT_FOUND")
        refused(client.post("/api/models/nope/unload"), 404, "MODEL_NOT_FOUND")
        error = refused(client.post("/api/models/mpnet/load"), 409, "MODEL_NOT_LOADED")
        assert "enabled: true" in error["message"]
    with serving(settings, hosts) as client:
        error = refused(client.post("/api/models/minilm/load"), 503, "MODEL_LOAD_FAILED")
        assert "it has no weights" in error["message"]
        answer = client.get("/api/models/minilm").json()
        assert (answer["state"], answer["requests"]) == ("failed", 0)
        assert 0 < answer["retry_in_seconds"] <= 5


def test_a_load_that_takes_longer_than_a_request_may_goes_on(settings: Settings, hosts: FakeHosts) -> None:
    hosts.starting = asyncio.Event()
    with serving(settings, hosts, resources={"request_timeout_seconds": 0.05}) as client:
        error = refused(client.post("/api/models/minilm/load"), 504, "TIMEOUT")
        assert "the load goes on" in error["message"]
        assert client.get("/api/models/minilm").json()["state"] == "loading"
        assert client.portal
        client.portal.call(hosts.starting.set)
        assert client.post("/api/models/minilm/load").json()["state"] == "ready"
    assert len(hosts.started) == 1


def test_unloading_answers_before_a_long_request_has_ended(settings: Settings, hosts: FakeHosts) -> None:
    hosts.prepare = lambda host: setattr(host, "busy", asyncio.Event())
    with (
        serving(settings, hosts, resources={"request_timeout_seconds": 1}) as client,
        ThreadPoolExecutor() as pool,
    ):
        working = pool.submit(client.post, "/api/embed", json={"texts": ["a"]})
        while not (hosts.started and hosts.started[0].runs):
            time.sleep(0.005)
        answer = client.get("/api/models/minilm").json()
        assert (answer["state"], answer["active_requests"], answer["idle_seconds"]) == ("ready", 1, None)
        unloading = pool.submit(client.post, "/api/models/minilm/unload")
        refused(working.result(), 504, "TIMEOUT")
        assert unloading.result().json()["state"] in {"draining", "available"}


def test_what_is_pinned_and_how_long_others_stay_is_told(settings: Settings) -> None:
    entries = [
        {"id": "stays", "hf_model": "org/a", "keep_alive_minutes": -1},
        {"id": "goes", "hf_model": "org/b", "keep_alive_minutes": 0.5},
        {"id": "as-all", "hf_model": "org/c"},
    ]
    models, resources = {"text_embedding": entries, "image_caption": []}, {"model_keep_alive_minutes": 2}
    with serving(settings, models=models, resources=resources) as client:
        answer = client.get("/api/models").json()["models"]
    assert [(model["pinned"], model["keep_alive_seconds"]) for model in answer] == [
        (True, None),
        (False, 30),
        (False, 120),
    ]


def test_without_any_model_the_list_is_empty(settings: Settings) -> None:
    with serving(settings, models={"text_embedding": [], "image_caption": []}) as client:
        assert client.get("/api/models").json() == {"models": []}
