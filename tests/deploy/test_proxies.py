"""The reverse proxies of `deploy/proxy`, as they are but for their addresses, in front of the service."""

import json
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from homelab_ai.settings import load_settings
from support.hub import MB, Fault, Hub
from support.server import REPOSITORY, Server, free_port
from support.tools import needed

PROXIES = REPOSITORY / "deploy" / "proxy"
SERVICE = "192.168.1.3:8000"
KEY = "a-key-of-32-characters-for-tests"
CONFIG = f"""
server: {{root_path: /ai, trusted_proxies: [127.0.0.1]}}
security:
  api_keys: [{{name: admin, key_hash: {sha256(KEY.encode()).hexdigest()}, scopes: [admin, read, embed]}}]
"""


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    text = (PROXIES / "nginx.conf").read_text()
    assert text.count(SERVICE) == text.count("listen 80;") == 1
    (folder / "site.conf").write_text(
        text.replace(SERVICE, upstream).replace("listen 80;", f"listen 127.0.0.1:{port};")
    )
    bodies = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {bodies} include {folder}/site.conf; }}"
    )
    return [needed("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, upstream: str) -> list[str]:
    text = (PROXIES / "Caddyfile").read_text()
    assert text.count(SERVICE) == 1
    for name in ("ai.home", "home.home"):
        assert text.count(f"\n{name} {{\n") == 1
        text = text.replace(f"\n{name} {{\n", f"\nhttp://{name}:{port} {{\n\tbind 127.0.0.1\n")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text.replace(SERVICE, upstream))
    return [needed("caddy"), "run", "--config", str(folder / "Caddyfile")]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.push("org/name", {"config.json": b"{}", "model.safetensors": bytes(6 * MB)})
        yield hub


@pytest.fixture(params=[nginx, caddy], ids=lambda proxy: proxy.__name__)
def proxy(request: pytest.FixtureRequest, tmp_path: Path, hub: Hub) -> Iterator[httpx.Client]:
    """A client of a proxy, which knows it as home.home."""
    port = free_port()
    home = {name: str(tmp_path / "home") for name in ("HOME", "HF_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    service_port = free_port()
    command = request.param(tmp_path, port, f"127.0.0.1:{service_port}")
    environment = {**hub.environment, "HF_HOME": home["HF_HOME"]}
    with (
        Server(tmp_path, environment=environment, config=CONFIG, port=service_port),
        (tmp_path / "proxy.log").open("w") as log,
        subprocess.Popen(command, env=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            headers = {"Host": "home.home", "Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
                wait_until_it_listens(client, process, tmp_path / "proxy.log")
                yield client
        finally:
            process.kill()


def wait_until_it_listens(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            client.get("/ai/health")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


def test_the_service_is_under_its_path_and_nowhere_else(proxy: httpx.Client) -> None:
    assert proxy.get("/ai/ready").json() == {"status": "ready"}
    assert proxy.get("/ai/api/models").status_code == 200
    assert "/ai/openapi.json" in proxy.get("/ai/docs").text
    moved = proxy.get("/ai")
    assert moved.is_redirect
    assert moved.headers["Location"].endswith("/ai/")
    assert proxy.get("/api/models").headers.get("X-Request-ID") is None


def test_a_body_may_be_as_large_as_the_service_takes_and_no_larger(proxy: httpx.Client) -> None:
    most = int(load_settings(None, {}).limits.max_body_mb) * MB
    refused = proxy.post("/ai/api/embed", content=bytes(most // 16), timeout=50)
    assert refused.json()["error"]["code"] == "UNSUPPORTED_MEDIA_TYPE"  # by the service, which has read it
    assert proxy.post("/ai/api/embed", content=bytes(most + 1), timeout=50).status_code == 413


def test_events_come_while_there_are_more_to_come(proxy: httpx.Client, hub: Hub) -> None:
    hub.silent = True  # so that the download begins when it is followed already
    hub.faults.append(Fault(pause_after=4 * MB))
    added = proxy.post("/ai/api/models", json={"type": "text_embedding", "id": "new", "hf_model": "org/name"})
    assert added.status_code == 201
    assert proxy.post("/ai/api/models/new/pull").status_code == 202
    try:
        with proxy.stream("GET", "/ai/api/models/new/pull", timeout=10) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            told = (
                json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")
            )
            assert next(told)["bytes"] == 0
            hub.silent = False
            hub.resume.set()
            hub.resume.clear()
            assert next(event for event in told if event["bytes"])["state"] == "running"
    finally:
        hub.resume.set()
