"""The configuration file is changed under a real service that is being used: nobody is dropped."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from support.reference import MINILM
from support.server import Server, wait_for

CONFIG = """
models: {{image_caption: [], text_embedding: [{models}]}}
security:
  rate_limit: {limit}
  api_keys: [{keys}]
"""


def key(name: str, **more: object) -> str:
    settings = "".join(f", {field}: {value}" for field, value in more.items())
    return f"{{name: {name}, key_hash: {hashlib.sha256(name.encode()).hexdigest()}{settings}}}"


def model(name: str) -> str:
    return f"{{id: {name}, hf_model: {MINILM}}}"


def configuration(*keys: str, models: tuple[str, ...] = ("minilm",), limit: str = "null") -> str:
    return CONFIG.format(models=", ".join(map(model, models)), keys=", ".join(keys), limit=limit)


BOSS, APP = key("boss", scopes="[admin, embed, read]"), key("app")


def write(server: Server, text: str) -> None:
    """Put this in the place of the file, and wait until it has been read."""
    before = looked_at(server)
    new = server.folder / "config.new"
    new.write_text(text)
    new.replace(server.folder / "config.yaml")
    wait_for(lambda: looked_at(server) > before)


def looked_at(server: Server) -> int:
    return server.stderr.count("read anew") + server.stderr.count("cannot be used")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("reloading")
    with Server(folder, config=configuration(BOSS, APP), environment={}) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    write(server, configuration(BOSS, APP))
    with server.client(headers={"Authorization": "Bearer boss"}) as client:
        yield client


def models(client: httpx.Client) -> list[str]:
    return [each["id"] for each in client.get("/api/models").json().get("models", [])]


def status(server: Server, name: str) -> int:
    with server.client(headers={"Authorization": f"Bearer {name}"}) as client:
        return client.get("/api/models").status_code


class Traffic:
    """Somebody who embeds all the time, over one connection."""

    def __init__(self, server: Server) -> None:
        self.statuses: list[int] = []
        self._server = server
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.statuses, seconds=60)
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _ask(self) -> None:
        with self._server.client(headers={"Authorization": "Bearer boss"}) as client:
            while not self._enough.is_set():
                answer = client.post("/api/embed", json={"texts": ["all the time"], "model": "minilm"})
                self.statuses.append(answer.status_code)


def test_keys_limits_and_models_take_effect_and_nobody_is_dropped(server: Server, client: httpx.Client) -> None:
    with Traffic(server) as traffic:
        write(server, configuration(BOSS, key("other"), models=("minilm", "second")))
        assert status(server, "app") == 401
        assert status(server, "other") == 200
        assert models(client) == ["minilm", "second"]
        assert client.post("/api/embed", json={"texts": ["a"], "model": "second"}).status_code == 200
        write(server, configuration(BOSS, key("other", rate_limit="1/day")))
        assert [status(server, "other") for _ in range(2)] == [200, 429]
        assert models(client) == ["minilm"]
        assert client.post("/api/embed", json={"texts": ["a"], "model": "second"}).status_code == 404
    assert set(traffic.statuses) == {200}
    assert len(traffic.statuses) > 3


def test_a_broken_file_is_refused_and_seen_and_the_last_settings_stay(server: Server, client: httpx.Client) -> None:
    write(server, configuration(BOSS, key("app", scopes="[everything]")))
    assert client.get("/api/status").json()["configuration"]["current"] is False
    assert status(server, "app") == 200
    assert "config_last_reload_successful 0.0" in client.get("/metrics").text
    assert "security.api_keys[1].scopes" in server.stderr
    write(server, configuration(BOSS))
    assert status(server, "app") == 401
    assert client.get("/api/status").json()["configuration"] | {"loaded_at": ""} == {
        "loaded_at": "",
        "current": True,
        "needing_restart": [],
    }


def test_a_hangup_has_it_read_and_the_service_goes_on(server: Server, client: httpx.Client) -> None:
    before = server.stderr.count("read anew: no change")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_for(lambda: server.stderr.count("read anew: no change") > before)
    assert client.get("/ready").status_code == 200


def test_under_uvicorn_too(tmp_path: Path) -> None:
    main = Path(__file__).parents[2] / "main.py"
    (tmp_path / "main.py").write_text(main.read_text())
    command = ("-m", "uvicorn", "main:app", "--host", "127.0.0.1", "--app-dir", str(tmp_path))
    with Server(tmp_path, config=configuration(BOSS), environment={}, command=command) as server:
        assert status(server, "app") == 401
        write(server, configuration(BOSS, APP))
        assert status(server, "app") == 200
