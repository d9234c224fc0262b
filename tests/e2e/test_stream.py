"""`GET /api/stream` against a real server: what it tells, to whom, and when it ends."""

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from homelab_ai.api.models import ModelsResponse
from homelab_ai.api.status import StatusResponse
from support.server import Server, wait_for

Event = tuple[str, dict[str, Any]]


def entry(name: str, *scopes: str) -> str:
    """An entry of config.yaml for the key `name`."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"  - {{name: {name}, key_hash: {digest}, scopes: [{', '.join(scopes)}]}}\n"


HEAD = "security:\n  api_keys:\n"
KEYS = {"boss": ("admin", "read"), "widget": ("read",), "other": ("read", "embed")}
CONFIG = HEAD + "".join(entry(name, *scopes) for name, scopes in KEYS.items())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environment={}, config=CONFIG) as server:
        yield server


@contextlib.contextmanager
def watched(server: Server, key: str = "boss") -> Iterator[tuple[httpx.Response, Iterator[Event]]]:
    """An open stream, and its events as they come."""
    with (
        server.client(headers={"Authorization": f"Bearer {key}"}) as client,
        client.stream("GET", "/api/stream") as answer,
    ):
        yield answer, events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[Event]:
    for line in lines:
        if line.startswith("event: "):
            yield line.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


def minilm(listed: dict[str, Any]) -> dict[str, Any]:
    """What a list of models says of this one."""
    (found,) = (model for model in listed["models"] if model["id"] == "minilm")
    assert isinstance(found, dict)
    return found


def the_next(coming: Iterator[Event], name: str) -> dict[str, Any]:
    return next(data for kind, data in coming if kind == name)


def test_it_tells_what_there_is_and_what_comes(server: Server) -> None:
    with server.client(headers={"Authorization": "Bearer other"}) as app, watched(server) as (answer, coming):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert (answer.headers["X-Accel-Buffering"], answer.headers["Cache-Control"]) == ("no", "no-cache")
        name, history = next(coming)
        assert (name, history["step_seconds"]) == ("history", 5)
        assert {len(history[each]) for each in ("requests", "errors", "queue", "memory_bytes")} == {
            len(history["queue"])
        }
        (name, status), (also, models) = next(coming), next(coming)
        assert (name, also) == ("status", "models")
        assert status["requests"]["active"] == 0, "the page itself is no load"
        StatusResponse.model_validate(status)
        ModelsResponse.model_validate(models)
        assert minilm(status)["p95_seconds"] is None

        assert app.post("/api/embed", json={"texts": ["a"]}, headers={"X-Request-ID": "mine"}).status_code == 200

        line = next(data for kind, data in coming if kind == "log" and data["request_id"] == "mine")
        assert line.keys() == {
            "time",
            "access",
            *("request_id", "client", "endpoint", "status", "duration_ms", "model"),
        }
        assert (line["endpoint"], line["status"], line["model"]) == ("/api/embed", 200, "minilm")
        status = the_next(coming, "status")
        assert minilm(status)["p95_seconds"] > 0
        assert app.get("/api/status").json()["requests"]["active"] == 0
    wait_for(lambda: " | /api/stream | 200 | " in server.stdout)


def test_models_come_again_when_one_is_loaded(server: Server) -> None:
    with server.client(headers={"Authorization": "Bearer other"}) as app, watched(server, "widget") as (_, coming):
        assert minilm(the_next(coming, "models"))["state"] == "available"
        app.post("/api/embed", json={"texts": ["a"]})
        while minilm(the_next(coming, "models"))["state"] != "ready":
            pass


def test_the_lines_of_the_logs_are_for_administrators(server: Server) -> None:
    with watched(server, "widget") as (_, coming):
        kinds = [next(coming)[0] for _ in range(5)]
    assert set(kinds) == {"history", "status", "models"}
    with watched(server) as (_, coming):
        assert the_next(coming, "log")["logger"].startswith("uvicorn")


def test_it_ends_when_its_key_is_revoked_and_others_go_on(server: Server) -> None:
    with server.client(headers={"Authorization": "Bearer boss"}) as boss:
        key = boss.post("/api/keys", json={"name": "guest", "scopes": ["read"]}).json()["key"]
        with watched(server, key) as (_, coming), watched(server) as (_, others):
            the_next(coming, "status")
            assert boss.delete("/api/keys/guest").status_code == 204
            list(coming)  # comes to an end
            the_next(others, "status")
        assert boss.get("/api/stream", headers={"Authorization": f"Bearer {key}"}).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        HEAD + entry("boss", "admin", "read"),
        HEAD + entry("widget", "embed"),
        "security:\n  ip_allowlist: [192.0.2.0/24]\n  api_keys:\n" + entry("widget", "read"),
    ],
    ids=["removed", "may do something else", "not from here any more"],
)
def test_it_ends_when_the_configuration_says_so(server: Server, changed: str) -> None:
    with watched(server, "widget") as (_, coming):
        the_next(coming, "status")
        (server.folder / "config.yaml").write_text(changed)
        list(coming)


def test_it_ends_at_once_when_the_service_is_stopped(server: Server) -> None:
    with ThreadPoolExecutor() as pool, watched(server) as (_, coming), watched(server, "widget") as (_, others):
        the_next(coming, "status")
        the_next(others, "status")
        ends = [pool.submit(list, each) for each in (coming, others)]
        server.stop(seconds=10)
        for end in ends:
            end.result(10)
    assert "Traceback" not in server.stderr
    assert server.stdout.count(" | /api/stream | 200 | ") == 2


NARROW = """
import socket
from homelab_ai.cli import main
from homelab_ai.server import Protocol

made = Protocol.connection_made


def narrow(self, transport):
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    made(self, transport)


Protocol.connection_made, Protocol.unread_seconds = narrow, 60
main()
"""


@pytest.mark.parametrize("models", [20, 400], ids=["behind by a few events", "the service waits for it"])
def test_who_does_not_read_it_does_not_hold_up_the_end(tmp_path: Path, models: int) -> None:
    offered = ", ".join(f"{{id: model-{number}, hf_model: org/model}}" for number in range(models))
    config = f"models: {{text_embedding: [{offered}]}}\n{CONFIG}"
    with (
        Server(tmp_path, environment={}, config=config, command=("-c", NARROW, "serve")) as server,
        socket.socket() as asleep,
        watched(server) as (_, coming),
    ):
        asleep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asleep.connect(("127.0.0.1", server.port))
        asleep.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer widget\r\n\r\n")
        assert asleep.recv(100).startswith(b"HTTP/1.1 200 ")
        for _ in range(4):
            the_next(coming, "status")
        server.stop(seconds=10)
        assert "Traceback" not in server.stderr
        assert server.stdout.count(" | /api/stream | 200 | ") == 2


def test_too_many_are_refused_and_those_that_go_make_room(server: Server) -> None:
    boss = {"Authorization": "Bearer boss"}
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(watched(server, "widget")) for _ in range(32)]
        for _, coming in opened:
            next(coming)
        refused = httpx.get(f"{server.url}/api/stream", headers=boss, trust_env=False)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "5"
        assert refused.json()["error"]["details"] == {"max_streams": 32}
    wait_for(lambda: server.stdout.count(" | /api/stream | 200 | ") == 32)
    with watched(server) as (answer, _):
        assert answer.status_code == 200
