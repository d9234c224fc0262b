"""`GET /metrics`: every metric with its name, labels and value, and no series that a stranger can make up."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from starlette.types import Message

from contract.answers import asking, bearer, key_entry, serving
from homelab_ai.api.endpoints import Endpoints
from homelab_ai.app import create_app
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed
from homelab_ai.models.memory import Footprint
from homelab_ai.settings import Settings
from homelab_ai.telemetry.metrics import Metrics, ModelNow, Now
from support.exposition import LABELS, Labels, Samples, parsed
from support.hosts import FakeHost, FakeHosts

EMBED = {"texts": ["a", "b"]}
CAPTION = {"image": "aW1hZ2U6IGNhdA=="}
MODELS = {"blip-base", "llava", "minilm", "mpnet"}


def read(client: TestClient) -> Samples:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(response.text)


def test_each_metric_after_one_request_of_each_kind(settings: Settings, hosts: FakeHosts) -> None:
    def prepare(host: FakeHost) -> None:
        host.says = {"tokens": 7}
        host.takes = Footprint(1000, 10)

    hosts.prepare = prepare
    with serving(settings, hosts, server={"root_path": "/ai"}) as client:
        for path in ("/api/embed", "/ai/api/embed"):
            assert client.post(path, json=EMBED).status_code == 200
        assert client.post("/api/caption", json=CAPTION).status_code == 200
        assert client.get("/api/models/minilm").status_code == 200
        assert client.get("/api/models/no/such/model").status_code == 404
        assert client.post("/api/embed", json={"texts": "a"}).status_code == 400
        assert client.get("/docs/assets/none").status_code == 404
        assert client.get("/nope").status_code == 404
        assert client.get("/openapi.json").status_code == 200
        samples = read(client)
        assert read(client)["api_requests_total"]["/metrics", "200"] == 1

    assert samples["api_requests_total"] == {
        ("/api/embed", "200"): 2,
        ("/api/embed", "400"): 1,
        ("/api/caption", "200"): 1,
        ("/api/models/{model_id:path}", "200"): 1,
        ("/api/models/{model_id:path}", "404"): 1,
        ("/docs/assets", "404"): 1,
        ("/openapi.json", "200"): 1,
        ("other", "404"): 1,
    }
    durations = samples["api_request_duration_seconds_count"]
    assert (durations["/api/embed",], durations["other",]) == (3, 1)
    assert 0 < samples["api_request_duration_seconds_sum"]["/api/embed",] < 60
    errors = {code: count for (code,), count in samples["api_errors_total"].items() if count}
    assert errors == {"MODEL_NOT_FOUND": 1, "INVALID_REQUEST": 1, "NOT_FOUND": 2}
    assert samples["active_requests"] == {(): 0}

    assert samples["model_load_duration_seconds_count"] == {("minilm",): 1, ("blip-base",): 1}
    assert samples["model_inference_duration_seconds_count"] == {("minilm",): 2, ("blip-base",): 1}
    assert samples["model_queue_wait_seconds_count"] == {("minilm",): 2, ("blip-base",): 1}
    assert samples["model_batch_items_sum"] == {("minilm",): 4, ("blip-base",): 1}
    assert samples["model_tokens_total"] == {("minilm",): 14, ("blip-base",): 7, ("llava",): 0, ("mpnet",): 0}
    loaded = {("minilm",): 1.0, ("blip-base",): 1.0, ("llava",): 0.0, ("mpnet",): 0.0}
    assert samples["models_loaded"] == loaded
    assert samples["model_memory_bytes"] == {model: 1000 * is_loaded for model, is_loaded in loaded.items()}
    assert samples["model_gpu_memory_bytes"] == {model: 10 * is_loaded for model, is_loaded in loaded.items()}
    assert samples["gpu_memory_used_bytes"] == {(): 20}
    assert samples["models_memory_used_bytes"] == {(): 2000}
    assert samples["models_memory_budget_bytes"][()] > 1e8
    assert samples["process_resident_memory_bytes"][()] > 1e7
    assert abs(samples["process_start_time_seconds"][()] - time.time()) < 3600
    assert samples["model_unloads_total"].keys() == {
        (model, reason) for model in MODELS for reason in ("idle", "room", "asked", "failed")
    }


def test_names_and_labels_are_these_and_no_others(client: TestClient) -> None:
    assert client.post("/api/embed", json=EMBED).status_code == 200
    found: dict[str, set[Labels]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {tuple(sorted(sample.labels.keys() - {"le"})) for sample in family.samples}
        assert not any(sample.name.endswith("_created") for sample in family.samples)
        assert family.documentation.endswith(".")
    assert found.keys() == LABELS.keys()
    for name, labels in found.items():
        assert labels <= {tuple(sorted(LABELS[name]))}, name
    # Without a GPU there is none to tell of.
    assert {name for name, labels in found.items() if not labels} <= {
        "gpu_device_memory_bytes",
        "gpu_device_memory_used_bytes",
    }


def test_applications_share_nothing(settings: Settings, client: TestClient) -> None:
    for family in REGISTRY.collect():  # that of the library itself
        assert not family.name.startswith(("api_", "model"))
    client.get("/health")
    with serving(settings.model_copy(update={"data_dir": settings.data_dir / "other"})) as other:
        assert read(other).get("api_requests_total", {}) == {}


# --- what goes wrong is counted, and nothing stays active


def test_every_way_to_end_is_counted_and_leaves_nothing_active(settings: Settings, hosts: FakeHosts) -> None:
    keys = [key_entry("reader", "k", "read", "embed")]
    with serving(settings, hosts, security={"api_keys": keys}) as client:
        client.headers.update(bearer("k"))

        def embed(expected: int, **more: Any) -> None:
            assert client.post("/api/embed", **{"json": EMBED, **more}).status_code == expected

        embed(200)
        embed(401, headers=bearer("wrong"))
        assert client.post("/api/caption", json=CAPTION).status_code == 403
        assert client.put("/api/embed").status_code == 405
        embed(415, json=None, content=b"x", headers={"Content-Type": "text/plain"})
        host = hosts.started[-1]
        host.on_run = lambda texts: ZeroDivisionError()
        embed(500)
        host.on_run = lambda texts: HostDied("it was ended by SIGKILL", run_had_started=True)
        hosts.prepare = lambda host: setattr(host, "on_run", lambda texts: HostDied("again", run_had_started=True))
        embed(500)
        hosts.on_start = lambda plan: TimeoutError()
        embed(504)
        hosts.on_start = lambda plan: None
        hosts.prepare = lambda host: setattr(host, "busy", asyncio.Event())
        hang_up(client, hosts)
        samples = read(client)
    statuses = {key: count for key, count in samples["api_requests_total"].items() if key[0] != "/metrics"}
    assert statuses == {
        ("/api/embed", "200"): 1,
        ("/api/embed", "401"): 1,
        ("/api/caption", "403"): 1,
        ("/api/embed", "405"): 1,
        ("/api/embed", "415"): 1,
        ("/api/embed", "500"): 2,
        ("/api/embed", "504"): 1,
        ("/api/embed", "499"): 1,
    }
    errors = {code: count for (code,), count in samples["api_errors_total"].items() if count}
    assert errors == {
        "UNAUTHORIZED": 1,
        "FORBIDDEN": 1,
        "METHOD_NOT_ALLOWED": 1,
        "UNSUPPORTED_MEDIA_TYPE": 1,
        "INTERNAL_ERROR": 1,
        "INFERENCE_FAILED": 1,
        "TIMEOUT": 1,
    }
    assert samples["active_requests"] == {(): 0}
    assert samples["model_host_deaths_total"]["minilm",] == 2
    assert samples["model_unloads_total"]["minilm", "failed"] == 2


def hang_up(client: TestClient, hosts: FakeHosts) -> None:
    """Ask, and go while the model is at work, in a host that is yet to be started."""
    started = len(hosts.started)
    body = [b'{"texts": ["a"]}']

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        while not any(host.runs for host in hosts.started[started:]):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    assert call(client, "/api/embed", receive) == []


def call(client: TestClient, path: str, receive: Callable[[], Awaitable[Message]]) -> list[Message]:
    """Call the application as a server does; return what it sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": "localhost", "content-type": "application/json", **bearer("k")}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "state": client.app_state.copy(),
    }
    assert client.portal
    client.portal.call(client.app, scope, receive, send)
    return sent


def test_loads_that_fail_are_counted(client: TestClient, hosts: FakeHosts) -> None:
    hosts.on_start = lambda plan: HostLoadFailed("it has no weights")
    assert client.post("/api/embed", json=EMBED).status_code == 503
    samples = read(client)
    assert samples["model_load_failures_total"]["minilm",] == 1
    assert ("minilm",) not in samples.get("model_load_duration_seconds_count", {})
    assert samples["models_loaded"]["minilm",] == 0


def test_what_is_under_way_is_seen(client: TestClient, hosts: FakeHosts) -> None:
    release = asyncio.Event()
    hosts.prepare = lambda host: setattr(host, "busy", release)
    with asking(client, release) as (pool, go_on):
        answers = [pool.submit(client.post, "/api/embed", json=EMBED)]
        while not any(host.runs for host in hosts.started):
            time.sleep(0.005)
        answers += [pool.submit(client.post, "/api/embed", json=EMBED) for _ in range(2)]
        while (samples := read(client))["model_queued_requests"]["minilm",] != 2:
            time.sleep(0.005)
        assert samples["active_requests"] == {(): 3}
        assert samples["model_active_requests"]["minilm",] == 3
        go_on()
        assert [answer.result().status_code for answer in answers] == [200, 200, 200]
    assert read(client)["active_requests"] == {(): 0}


# --- no label can be made up


def test_ten_thousand_paths_are_one_series(settings: Settings, client: TestClient) -> None:
    chosen = random.Random(1)
    letters = 'abcxyz0189._-~%{}":\\ \n\0é\u2028'
    paths = ["/" + "".join(chosen.choices(letters, k=chosen.randrange(1, 60))) for _ in range(10_000)]
    endpoints, app = Endpoints(), create_app(settings)
    assert {endpoints.of({"path": path, "app": app}) for path in paths} == {"other"}
    below = {endpoints.of({"path": f"/api/models{path}", "app": app}) for path in paths}
    assert below == {"/api/models/{model_id:path}", "other"}
    for path in paths[:200]:
        assert client.get(quote(path)).status_code == 404
    assert {endpoint for endpoint, _ in read(client)["api_requests_total"]} <= {"other", "/metrics"}


def test_models_that_are_not_on_offer_have_no_series(client: TestClient) -> None:
    for name in ("nope", 'x"} 1\nforged 1', "x" * 512, "\\", "\0"):
        assert client.post("/api/embed", json={"texts": ["a"], "model": name}).status_code == 404
    samples = read(client)
    assert {model for (model,) in samples["models_loaded"]} == MODELS
    assert "forged" not in samples
    for name, values in samples.items():
        if name in LABELS and LABELS[name][:1] == ("model",):
            assert {labels[0] for labels in values} <= MODELS


def test_a_removed_model_takes_its_series_along(client: TestClient) -> None:
    assert client.post("/api/embed", json=EMBED).status_code == 200
    assert "minilm" in client.get("/metrics").text
    assert client.delete("/api/models/minilm").status_code == 200
    assert "minilm" not in client.get("/metrics").text


@pytest.mark.parametrize("name", ['a"b', "a\\", "a\nb", "a{b}", "é", "a,b=1"])
def test_a_strange_name_stays_a_name(name: str) -> None:
    metrics = Metrics("1.0", reasons=[])
    metrics.loaded(name, 1.5)
    now = Now([ModelNow(name, 1, 0, 0, 1, 0, 0)], 0, 0, 0, [], configuration_is_current=True, configuration_loaded_at=0)
    samples = parsed(metrics.exposition(now).decode())
    assert samples["model_load_duration_seconds_sum"] == {(name,): 1.5}
    assert samples["models_loaded"] == {(name,): 1}


def test_what_clients_send_is_nowhere(client: TestClient) -> None:
    secret: Mapping[str, str] = {"X-Request-ID": "secret-id", "User-Agent": "secret-agent"}
    client.post("/api/embed?secret-query=1", json={"texts": ["secret text"]}, headers=secret)
    client.get("/secret-path", headers=secret)
    assert "secret" not in client.get("/metrics").text
