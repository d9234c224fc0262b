"""`GET /api/status`: the service at a glance, true to what happens, and shallow."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.answers import asking, bearer, key_entry, serving
from homelab_ai.api.status import StatusResponse
from homelab_ai.models.device import Gpu
from homelab_ai.models.hosts.host import HostLoadFailed
from homelab_ai.models.memory import Footprint
from homelab_ai.settings import Settings
from support.hosts import FakeHosts

EMBED = {"texts": ["a secret text"]}


def read(client: TestClient) -> dict[str, Any]:
    response = client.get("/api/status")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    StatusResponse.model_validate(answer)
    return answer


def test_a_service_that_has_just_started(client: TestClient, hosts: FakeHosts) -> None:
    status = read(client)
    assert status.keys() == StatusResponse.model_fields.keys()
    assert status["ready"] is True
    assert 0 <= status["uptime_seconds"] < 60
    assert status["device"]["cpu"]
    assert status["device"]["cpu_cores"] >= 1
    assert status["device"]["models_on"] == []
    assert status["memory"]["used_bytes"] == 0
    assert status["memory"]["budget_bytes"] > 1e8
    assert status["models_loaded"] == 0
    assert [model["state"] for model in status["models"]] == ["available"] * 4
    assert status["queue"] == {"depth": 0, "capacity": 260}
    assert set(status["requests"].values()) == {0}
    assert status["errors"] == []
    assert hosts.started == []


def test_it_is_shallow(client: TestClient) -> None:
    client.get("/nope")
    for value in read(client).values():
        items = value if isinstance(value, list) else [value] if isinstance(value, dict) else []
        for item in items:
            for inner in item.values():
                elements = inner if isinstance(inner, list) else [inner]
                assert not any(isinstance(element, dict | list) for element in elements)


def test_after_some_requests(client: TestClient, hosts: FakeHosts) -> None:
    hosts.prepare = lambda host: setattr(host, "takes", Footprint(1000, 10))
    before = datetime.now(UTC)
    assert client.post("/api/embed", json=EMBED).status_code == 200
    no_weights = HostLoadFailed("it has no weights")
    hosts.on_start = lambda plan: no_weights if plan.model_id == "blip-base" else None
    assert client.post("/api/caption", json={"image": "aW1hZ2U6IGNhdA=="}).status_code == 503
    assert client.get("/secret-path", headers={"X-Request-ID": "the-last-one"}).status_code == 404
    status = read(client)
    assert status["requests"] == {
        "total": 3,
        "active": 0,
        "succeeded": 1,
        "refused": 1,
        "failed": 1,
        "gone": 0,
        "last_minute": 3,
    }
    last, first = status["errors"]
    assert (last["status"], last["code"], last["endpoint"], last["request_id"]) == (
        *(404, "NOT_FOUND", "other"),
        "the-last-one",
    )
    assert (first["status"], first["code"], first["endpoint"]) == (503, "MODEL_LOAD_FAILED", "/api/caption")
    assert timedelta(0) <= datetime.fromisoformat(first["time"]) - before < timedelta(minutes=1)
    assert status["memory"]["used_bytes"] == 1000
    assert status["memory"]["gpu_used_bytes"] == 10
    assert status["models_loaded"] == 1
    assert status["device"]["models_on"] == ["cpu"]
    states = {model["id"]: model for model in status["models"]}
    assert states["blip-base"]["state"] == "failed"
    assert states["minilm"]["state"] == "ready"
    assert states["minilm"]["idle_seconds"] >= 0
    assert 1700 < states["minilm"]["unloads_in_seconds"] <= 1800
    assert states["minilm"]["p95_seconds"] >= 0
    assert states["blip-base"]["p95_seconds"] is None, "it has answered none"
    assert "secret" not in client.get("/api/status").text


def test_a_request_that_wanted_nothing_of_the_model_says_nothing_of_its_speed(client: TestClient) -> None:
    assert client.post("/api/caption", files={"image": b""}).status_code == 400
    states = {model["id"]: model for model in read(client)["models"]}
    assert states["blip-base"]["p95_seconds"] is None


def test_what_waits_is_the_depth_of_the_queue(client: TestClient, hosts: FakeHosts) -> None:
    release = asyncio.Event()
    hosts.prepare = lambda host: setattr(host, "busy", release)
    with asking(client, release) as (pool, go_on):
        answers = [pool.submit(client.post, "/api/embed", json=EMBED)]
        while not any(host.runs for host in hosts.started):
            time.sleep(0.005)
        answers += [pool.submit(client.post, "/api/embed", json=EMBED) for _ in range(2)]
        while (status := read(client))["queue"]["depth"] != 2:
            time.sleep(0.005)
        assert status["requests"]["active"] == 3
        go_on()
        assert [answer.result().status_code for answer in answers] == [200, 200, 200]


def test_all_of_an_answer_is_of_one_instant(
    client: TestClient, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, being_asked = asyncio.Event(), threading.Event()
    hosts.prepare = lambda host: setattr(host, "busy", release)

    async def slow_gpus() -> list[Gpu]:
        being_asked.set()
        while not any(host.runs for host in hosts.started):
            await asyncio.sleep(0.005)
        return []

    monkeypatch.setattr(client.app_state["gpus"], "now", slow_gpus)
    with asking(client, release) as (pool, _):
        status = pool.submit(read, client)
        assert being_asked.wait(10)
        pool.submit(client.post, "/api/embed", json=EMBED)
        answer = status.result()
        assert answer["models_loaded"] == answer["requests"]["active"] == 1


def test_strangers_cannot_fill_the_list_of_errors(settings: Settings) -> None:
    with serving(settings, security={"api_keys": [key_entry("app", "k", "read")]}) as client:
        assert client.post("/api/embed", json=EMBED, headers=bearer("k")).status_code == 403
        for _ in range(20):
            assert client.get("/nope").status_code == 401
        status = client.get("/api/status", headers=bearer("k")).json()
    assert [error["code"] for error in status["errors"]] == ["FORBIDDEN"]
    assert status["requests"]["refused"] == 21


def test_only_the_last_errors_are_kept(client: TestClient) -> None:
    for number in range(25):
        client.get("/nope", headers={"X-Request-ID": f"r{number}"})
    assert [error["request_id"] for error in read(client)["errors"]] == [f"r{number}" for number in range(24, 14, -1)]


def test_a_service_that_cannot_be_used_says_so(settings: Settings, client: TestClient) -> None:
    (settings.data_dir / "state.db").unlink()
    assert client.get("/ready").status_code == 503
    assert read(client)["ready"] is False


def test_gpus_are_told_of(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app_state["gpus"], "_read", lambda: [Gpu("A", 100, 10), Gpu("B", 200, 20)])
    device = read(client)["device"]
    assert (device["gpu"], device["gpus"]) == ("A", 2)
    assert (device["gpu_memory_bytes"], device["gpu_memory_used_bytes"]) == (300, 30)
    page = client.get("/metrics").text
    assert 'gpu_device_memory_bytes{gpu="1"} 200.0' in page
    assert 'gpu_device_memory_used_bytes{gpu="0"} 10.0' in page
