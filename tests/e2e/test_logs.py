"""The logs of the running service: a line for each request that a program can read, and nothing that a user sent."""

import base64
import contextlib
import json
import os
import random
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.server import KEYLESS, REPOSITORY, Server, wait_for

REQUESTS = int(os.environ.get("HOMELAB_AI_TEST_REQUESTS", "1000"))
LOGGING = (REPOSITORY / "docs" / "logging.md").read_text()
(EXPRESSION,) = re.findall(r"```regex\n(.*)\n```", LOGGING)
ODD = ["a|b", "a b", "a%0ab", "%7c%20%7c", "%e2%80%a8", "%1b[2J", "..%2f", "%00", "%ff", "x" * 5000, "%s", "{0}", '"']


KINDS: list[tuple[str, str, str, dict[str, Any]]] = [
    # method, path, the endpoint that the line has to begin with, what else to send
    ("GET", "/health", "/health", {}),
    ("HEAD", "/ready", "/ready", {}),
    ("POST", "/api/embed", "/api/embed", {"json": {"texts": ["a text"]}}),
    ("POST", "/api/embed", "/api/embed", {"content": b"{"}),
    ("POST", "/api/caption", "/api/caption", {"json": {"image": "no base64"}}),
    ("GET", "/api/models", "/api/models", {"headers": {"Authorization": "Bearer wrong | key"}}),
    ("GET", "/api/models/one%7cof them", "/api/models/{model_id:path}", {}),
    ("BREW", "/api/models?a=|&b=%0a", "/api/models", {}),
    *(("GET", f"/nothing/{odd}", "/nothing/", {}) for odd in ODD),
]


@pytest.mark.timeout(60 + REQUESTS // 20)
def test_each_request_has_one_line_that_the_expression_reads(tmp_path: Path) -> None:
    chance = random.Random(7)
    expected: dict[str, str] = {}
    broken = 0
    with Server(tmp_path) as server, server.client() as client:
        for number in range(REQUESTS):
            if not chance.randrange(10):
                broken += 1
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                    connection.sendall(b"GET /a b\x00|c HTTP/1.1\r\nX: |\r\n\r\n")
                    assert b"400" in connection.recv(65536)
                continue
            method, path, endpoint, more = chance.choice(KINDS)
            name = f"r-{number}"
            expected[name] = endpoint
            client.request(method, path, **{**more, "headers": {"X-Request-ID": name, **more.get("headers", {})}})
        wait_for(lambda: server.stdout.count("\n") > len(expected) + broken)
        written = server.stdout
    assert written.endswith("\n")
    lines = [re.fullmatch(EXPRESSION, line) for line in written.removesuffix("\n").split("\n")]
    assert all(lines), [line for line, match in zip(written.splitlines(), lines, strict=True) if not match][:3]
    rows = [line.groupdict() for line in lines if line]
    counted = Counter(row["request_id"] for row in rows)
    assert set(counted.values()) == {1}
    probes = [row for row in rows if row["request_id"] not in expected and row["endpoint"] == "/ready"]
    assert sum(row["endpoint"] == "-" for row in rows) == broken
    assert len(rows) == len(expected) + broken + len(probes)
    for row in rows:
        assert row["endpoint"].startswith(expected.get(row["request_id"], ""))
        assert row["client_ip"] == "127.0.0.1"


# --- what may not be in them

CANARY = "canary7f3a"
LEAKY = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
import homelab_ai.app
for kind in homelab_ai.app._ENGINES:
    homelab_ai.app._ENGINES[kind] = "support.leaky"
from homelab_ai.cli import main
main()
"""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    paths = os.pathsep.join(filter(None, [str(REPOSITORY / "tests"), *sys.path]))
    folder = tmp_path_factory.mktemp("leaky")
    (folder / "model").mkdir()
    config = f"""
logging: {{format: json, level: debug}}
models:
  text_embedding: [{{id: texts, hf_model: {folder}/model, default: true}}]
  image_caption: [{{id: images, hf_model: {folder}/model, default: true}}]
security: {{api_keys: [{{name: test, key_hash: {"0" * 64}}}]}}
"""
    with Server(
        folder, command=("-c", LEAKY, "serve"), config=config, environment=KEYLESS | {"PYTHONPATH": paths}
    ) as server:
        yield server


def shout(client: httpx.Client) -> list[int]:
    """Say the canary in every place there is; return how that was answered."""
    c = CANARY
    headers: list[dict[str, str | bytes]] = [
        {},
        {"Authorization": f"Bearer {c}"},
        {"Authorization": f"Basic {c}"},
        {"Authorization": c},
        {"X-Request-ID": f"{c} {c}"},
        {"X-Request-ID": c + "x" * 200},
        {"User-Agent": c, "Referer": f"http://{c}/", "Cookie": f"{c}={c}", "Accept": c},
        {"X-Forwarded-For": c, "Forwarded": f"for={c}", "X-Real-IP": c},
        {"Origin": f"http://{c}.example"},
        {"Host": f"{c}.example"},
        {"Priority": c, "traceparent": c, "X-Expect-Fingerprint": c, "Expect": c},
        {f"X-{c}": b"a | b \x1b[31m"},
        {"X-A": "\u2028".encode() + c.encode()},
        {"X-A": c * 3_000},
        {"X-A": c * 10_000},
        {"Content-Type": c},
        {"Content-Type": f"multipart/form-data; boundary={c}"},
    ]
    statuses = [client.get(f"/health?{c}={c}#{c}", headers=more).status_code for more in headers]  # type: ignore[arg-type]
    for more in headers:
        for text in (c, f"raise {c}", f"nonsense {c}"):
            answer = client.post(f"/api/embed?{c}", json={"texts": [text]}, headers=more)  # type: ignore[arg-type]
            statuses.append(answer.status_code)
    bodies: list[object] = [
        {"texts": [f"die {c}"]},
        {"texts": c},
        {"texts": [1, {c: c}]},
        {"texts": [c], c: c},
        {"texts": [c], "model": c},
        {"texts": [f"\ud800{c}"]},
        {"texts": [c] * 5000},
        [c],
        c,
    ]
    statuses += [client.post("/api/embed", content=json.dumps(body), headers=JSON).status_code for body in bodies]
    images = [
        c.encode(),
        PNG,
        PNG[:40] + c.encode() + PNG[40:],
        b"GIF89a" + c.encode(),
        b"\xff\xd8\xff\xe0" + c.encode(),
        b"RIFF\x10\x00\x00\x00WEBP" + c.encode(),
    ]
    for image in images:
        for fields in ({}, {"prompt": f"raise {c}"}, {"prompt": c}, {"model": c}, {c: c}):
            text = base64.b64encode(image).decode()
            statuses.append(client.post("/api/caption", json={"image": text, **fields}).status_code)
            form = client.post("/api/caption", files={"image": (f"{c}.png", image, c)}, data=fields)
            statuses.append(form.status_code)
    statuses += [client.post("/api/caption", json={"image": c, "prompt": f"die {c}"}).status_code]
    changes = [
        client.post("/api/models", json={"type": c, "id": c, "hf_model": c}),
        client.post("/api/models", json={"type": "text_embedding", "id": f"{c} {c}", "hf_model": f"/{c}"}),
        client.post("/api/models", json={"type": "text_embedding", "id": c, "hf_model": f"/{c}"}),
        client.patch(f"/api/models/{c}", json={"default": True}),
        client.delete(f"/api/models/{c}", params={"purge": c}),
        *(client.post(f"/api/models/{c}/{deed}") for deed in ("pull", "load", "unload")),
        client.get(f"/api/models/{c}"),
    ]
    return statuses + [change.status_code for change in changes]


JSON = {"Content-Type": "application/json"}


def test_nothing_that_a_client_says_is_in_a_log_or_on_the_disk(leaky: Server) -> None:
    with leaky.client() as client:
        statuses = shout(client)
        for broken in (
            f"GET /{CANARY} HTTP/1.1\r\n{CANARY}\r\n\r\n",
            f"{CANARY}\r\n\r\n",
            f"GET {CANARY} HTTP/1.1\r\n",
        ):
            with socket.create_connection(("127.0.0.1", leaky.port), timeout=20) as connection:
                connection.sendall(broken.encode())
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    connection.recv(65536)
        assert client.get("/health").status_code == 200
    assert {200, 400, 401, 403, 404, 415, 431, 500} <= set(statuses)
    assert CANARY not in leaky.stdout
    assert CANARY not in leaky.stderr
    assert "could not be read" in leaky.stderr
    assert "KeyError" in leaky.stderr
    files = [file for file in (leaky.folder / "data").rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]


def test_each_line_in_json_is_an_object_with_the_fields_that_are_documented(leaky: Server) -> None:
    with leaky.client() as client:
        client.post("/api/embed", json={"texts": ["a text that has the model loaded"]})
    requests = [json.loads(line) for line in leaky.stdout.splitlines()]
    names = re.search(r"^timestamp \|.*$", LOGGING, re.MULTILINE)
    assert names
    assert {tuple(line) for line in requests} == {tuple(names[0].split(" | "))}
    assert all(isinstance(line["status"], int) and isinstance(line["duration_ms"], float) for line in requests)
    told = [json.loads(line) for line in leaky.stderr.splitlines()]
    fields = {"timestamp", "level", "logger", "request_id", "message"}
    assert {frozenset(line) for line in told} <= {frozenset(fields), frozenset(fields | {"exception"})}
    assert {line["logger"] for line in told} >= {"uvicorn.error", "homelab_ai.models.scheduler"}
    assert {line["message"] for line in told if line["logger"] == "uvicorn.error"} >= {
        "Waiting for application startup.",
        "Application startup complete.",
    }


def test_the_path_that_nobody_serves_is_shown_and_its_query_is_not(leaky: Server) -> None:
    with leaky.client() as client:
        client.get("/hidden%7cpath?hidden-query", headers={"X-Request-ID": "lost"})
    wait_for(lambda: '"lost"' in leaky.stdout)
    (line,) = [json.loads(line) for line in leaky.stdout.splitlines() if '"lost"' in line]
    assert line["endpoint"] == "/hidden?path"
    assert "hidden-query" not in leaky.stdout + leaky.stderr
