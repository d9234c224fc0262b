"""The service in containers, as they are run at home: hardened as a user of its own, and as root who gives way to PUID.

Both are asked for all that the service can do, through the published port, with the folder of models and the
configuration mounted; the page that they read is on a site in the containers' own network.
"""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest
from PIL import Image

from support.container import USER, Container, Engine
from support.images import saved
from support.server import REPOSITORY, wait_for

SHAPES = REPOSITORY / "tests" / "models" / "blip-shapes"
SENTENCE = "The boiler in the cellar was serviced in March, and the chimney sweep has signed the book."
PAGE = f"""<!doctype html><title>Before</title><div id="root"></div><script>document.title = "After";
document.getElementById("root").innerHTML = "<main><h1>After</h1><p>{SENTENCE} {SENTENCE}</p></main>"</script>"""
CONFIG = """
models:
  image_caption: [{id: shapes, hf_model: /app/models/blip-shapes, default: true}]
crawl:
  allow_hosts: [site]
"""
KEY = "a-key-whose-hash-comes-as-a-secret"
SCOPES = "[admin, read, embed, caption, crawl]"
KEYS = f"[{{name: admin, key_hash: {sha256(KEY.encode()).hexdigest()}, scopes: {SCOPES}}}]"

WAYS = {
    "hardened": (
        *("--user", f"{USER}:{USER}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"),
        *("--tmpfs", "/tmp:rw,noexec,nosuid,nodev", "--env", "HOMELAB_AI__SECURITY__API_KEYS_FILE=/run/secrets/keys"),
        *("--security-opt", f"seccomp={REPOSITORY / 'deploy' / 'seccomp' / 'chromium.json'}"),
    ),
    "plain": ("--env", f"PUID={USER}", "--env", f"PGID={USER}"),
}


@pytest.fixture(scope="module")
def network(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A network of its own, with a site in it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    folder.chmod(0o755)
    name = f"homelab-ai-e2e-{os.getpid()}"
    engine.run("network", "create", name)
    try:
        options = ("--network", name, "--network-alias", "site", "--volume", f"{folder}:/site:ro", "--user", str(USER))
        with Container(engine, image, *options, command=("python", "-m", "http.server", "-d", "/site", "8080")):
            yield name
    finally:
        engine.run("network", "rm", name)


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def service(
    way: str, engine: Engine, image: str, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp(way)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "keys").write_text(KEYS)
    (folder / "data").mkdir()
    shutil.copytree(SHAPES, folder / "models" / "blip-shapes")
    if way == "hardened" and os.getuid() == 0:  # who is not root cannot be given what others have made
        for path in (folder / "data", folder / "models"):
            os.chown(path, USER, USER)
    options = (
        *("--network", network, "--memory", "2g", "--pids-limit", "512", "--env", "HF_HUB_OFFLINE=1"),
        *("--volume", f"{folder}/config.yaml:/app/config.yaml:ro", "--volume", f"{folder}/keys:/run/secrets/keys:ro"),
        *("--volume", f"{folder}/models:/app/models", "--volume", f"{folder}/data:/app/data"),
    )
    with Container(engine, image, *options, *WAYS[way]) as container:
        container.wait_until_ready()
        yield container


@pytest.fixture(scope="module")
def key(way: str, service: Container) -> str:
    """The key of the secret; without one, that which the first start makes and shows."""
    if way == "hardened":
        return KEY
    wait_for(lambda: re.search(r"\bhlab_[\w-]+", service.logs))  # engines are not in a hurry with what they have read
    (shown,) = {*re.findall(r"\bhlab_[\w-]+", service.logs)}
    return str(shown)


@pytest.fixture
def client(service: Container, key: str) -> Iterator[httpx.Client]:
    with service.client(headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def vector(client: httpx.Client, **more: str) -> list[float]:
    answer = client.post("/api/embed", json={"texts": ["The cat sleeps"], **more})
    assert answer.status_code == 200, answer.text
    found: list[float] = answer.json()["embeddings"][0]
    return found


def page(client: httpx.Client, address: str) -> httpx.Response:
    return client.post("/api/crawl", json={"url": address, "wait_for_js": True, "screenshot": True})


def described(client: httpx.Client) -> str:
    picture = saved(Image.new("RGB", (64, 64), "white"), "PNG")
    answer = client.post("/api/caption", files={"image": ("picture.png", picture, "image/png")})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["caption"])


def test_what_it_weighs(service: Container, client: httpx.Client) -> None:
    """The first of all, for what it loads stays. `make e2e ARGS="-s -k 'weighs or stopped'"` shows the figures."""
    idle = service.memory_bytes
    print(f"\nready after {service.seconds_to_ready:.2f} s, idle {idle / 1e6:.0f} MB")
    for what, ask in (
        ("an embedding", vector),
        ("a caption", described),
        ("a page", lambda c: page(c, "http://site:8080/")),
    ):
        begin = time.monotonic()
        ask(client)
        print(f"{what}: {time.monotonic() - begin:.2f} s, then {service.memory_bytes / 1e6:.0f} MB")
    assert idle < 100e6
    assert service.memory_bytes < 1e9


def test_it_embeds(client: httpx.Client) -> None:
    assert len(vector(client)) == 384


def test_it_describes_an_image(client: httpx.Client) -> None:
    assert described(client)


def test_it_reads_the_page_that_the_configuration_opens_and_no_other_of_its_network(
    engine: Engine, service: Container, client: httpx.Client
) -> None:
    answer = page(client, "http://site:8080/")
    assert answer.status_code == 200, answer.text
    assert answer.json()["title"] == "After"
    assert SENTENCE in answer.json()["text"]
    assert answer.json()["screenshot_base64"]

    address = service.exec("python", "-c", "import socket; print(socket.gethostbyname('site'))").stdout.strip()
    refused = page(client, f"http://{address}:8080/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "CRAWL_BLOCKED")


def test_the_browser_has_its_sandbox_where_it_may_have_one(service: Container, client: httpx.Client) -> None:
    may = service.exec("unshare", "--user", "--pid", "--net", "true", check=False)
    assert page(client, "http://site:8080/").status_code == 200
    assert client.get("/api/status").json()["browser"]["sandboxed"] is (may.returncode == 0)


def test_the_doctor_finds_no_problem(service: Container, key: str) -> None:
    told = service.exec("homelab-ai", "doctor", "--json", environment={"HOMELAB_AI_API_KEY": key}, check=False)
    findings = json.loads(told.stdout)["findings"]
    assert {"service", "browser", "disk", "memory"} <= {finding["subject"] for finding in findings}
    assert not [finding for finding in findings if finding["level"] == "problem"]


def test_no_process_is_root_or_has_capabilities(service: Container, client: httpx.Client) -> None:
    vector(client)
    page(client, "http://site:8080/")
    looked = 'for each in /proc/[0-9]*; do grep -hE "^(Name|Uid|Gid|CapEff):" "$each/status"; done 2>/dev/null; true'
    told = service.exec("sh", "-c", looked).stdout
    found = re.findall(r"^Name:\t(.+)\nUid:\t(.+)\nGid:\t(.+)\nCapEff:\t(.+)$", told, re.MULTILINE)
    names = {name for name, *_ in found}
    assert {"tini", "uvicorn"} <= names
    assert any(name.startswith("chromium") for name in names)
    assert {number for _, uid, gid, _ in found for number in (*uid.split(), *gid.split())} == {str(USER)}
    # Chromium's sandbox has some in namespaces of its own, where they open nothing of the container's.
    assert {capabilities for name, *_, capabilities in found if not name.startswith("chromium")} == {"0" * 16}


def test_what_is_left_behind_is_reaped(service: Container) -> None:
    orphan = service.exec("sh", "-c", "sleep 0.1 & echo $!").stdout.strip()
    wait_for(lambda: not service.exec("sh", "-c", f"ls -d /proc/{orphan} 2>/dev/null || true").stdout)


def test_the_health_check_passes(service: Container) -> None:
    service.exec("/app/bin/healthcheck")


def test_nothing_is_written_outside_of_the_volumes(service: Container, client: httpx.Client) -> None:
    vector(client)
    page(client, "http://site:8080/")
    changed = [line.split(maxsplit=1)[1] for line in service.engine.run("diff", service.id).stdout.splitlines()]
    mounted = ("/app/data", "/app/models", "/app/config.yaml", "/run/secrets", "/tmp", "/etc", "/dev", "/proc", "/sys")
    parents = {"/app", "/run", "/"}
    assert not [path for path in changed if not path.startswith(mounted) and path not in parents]


def test_models_and_keys_are_there_after_a_restart(service: Container, client: httpx.Client) -> None:
    made = client.post("/api/keys", json={"name": "photos", "scopes": ["embed"]})
    assert made.status_code == 201, made.text
    model = {"type": "text_embedding", "id": "second", "hf_model": "sentence-transformers/all-MiniLM-L6-v2"}
    assert client.post("/api/models", json=model).status_code == 201
    before = vector(client)
    exported = service.exec("find", "/app/models/exports", "-name", "*.bin").stdout
    assert exported

    service.engine.run("restart", "--time", "30", service.id)
    service.wait_until_ready()

    with service.client(headers={"Authorization": f"Bearer {made.json()['key']}"}) as photos:
        assert vector(photos, model="second") == pytest.approx(before, abs=1e-3)
    assert "shapes" in [each["id"] for each in client.get("/api/models").json()["models"]]
    assert service.exec("find", "/app/models/exports", "-name", "*.bin").stdout == exported, "it was exported once more"


def test_it_is_stopped_in_under_ten_seconds(service: Container, client: httpx.Client) -> None:
    vector(client)
    page(client, "http://site:8080/")
    begin = time.monotonic()
    service.engine.run("stop", "--time", "30", service.id)
    print(f"\nstopped in {(took := time.monotonic() - begin):.2f} s")
    assert took < 10
    status = service.engine.inspect("container", service.id)["State"]["ExitCode"]
    assert status in {0, 128 + signal.SIGTERM}
    assert "Traceback" not in service.logs
