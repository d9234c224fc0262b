"""Starting the service as its README says, with both commands, and what it says when it cannot start."""

import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import pytest

from support.exposition import parsed
from support.reference import TEXTS, cosines, vectors_of_texts
from support.server import KEYLESS, REPOSITORY, Server, free_port

UVICORN = ("-m", "uvicorn", "main:app", "--app-dir", str(REPOSITORY))
SERVE = ("-m", "homelab_ai", "serve")


def envelope(answer: httpx.Response) -> dict[str, object]:
    """The error in an answer, which has the one shape that errors have."""
    (error,) = answer.json().values()
    assert set(error) == {"code", "message", "request_id", "details"}
    assert error["request_id"] == answer.headers["X-Request-ID"]
    result: dict[str, object] = error
    return result


def state_of_minilm(client: httpx.Client) -> dict[str, object]:
    models = client.get("/api/models").json()["models"]
    (minilm,) = [model for model in models if model["id"] == "minilm"]
    result: dict[str, object] = minilm
    return result


def test_the_first_walk(tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
        assert state_of_minilm(client)["state"] == "available"
        assert not server.hosts(), "a model is loaded when it is asked for, and not before"
        assert psutil.Process(server.process.pid).memory_info().rss < 100_000_000

        answer = client.post("/api/embed", json={"texts": TEXTS})

        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.json()
        assert body.keys() == {"request_id", "embeddings", "dimensions", "model_used", "truncated"}
        assert body["request_id"] == answer.headers["X-Request-ID"]
        assert body["model_used"] == "minilm"
        assert body["dimensions"] == 384
        assert [len(vector) for vector in body["embeddings"]] == [384] * len(TEXTS)
        assert cosines(body["embeddings"], vectors_of_texts()).min() >= 0.999

        assert re.fullmatch(
            r"load;dur=.*, queue;dur=.*, tokenize;dur=.*, inference;dur=.*", answer.headers["Server-Timing"]
        )
        metrics, status = parsed(client.get("/metrics").text), client.get("/api/status").json()
        assert metrics["model_tokens_total"]["minilm",] > len(TEXTS)
        assert metrics["model_memory_bytes"]["minilm",] == status["memory"]["used_bytes"] > 10_000_000
        assert metrics["process_resident_memory_bytes"][()] < 100_000_000
        assert status["device"]["models_on"] == ["cpu"]

        minilm = state_of_minilm(client)
        assert minilm["state"] == "ready"
        assert minilm["dimensions"] == 384
        assert minilm["loads"] == 1
        again = client.get("/api/models/all-MiniLM-L6-v2").json()
        passing = {"idle_seconds", "unloads_in_seconds"}
        assert {name: again[name] for name in again.keys() - passing} == {
            name: minilm[name] for name in minilm.keys() - passing
        }
        for name in ("minilm", "MINILM", "sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"):
            assert client.post("/api/embed", json={"texts": ["a"], "model": name}).json()["model_used"] == "minilm"

        assert envelope(client.post("/api/embed", json={"texts": []}))["code"] == "INVALID_REQUEST"
        assert envelope(client.post("/api/embed", json={"texts": ["a"], "model": "x"}))["code"] == "MODEL_NOT_FOUND"
        assert (
            envelope(client.post("/api/embed", json={"texts": ["a"], "model": "mpnet"}))["code"] == "MODEL_NOT_LOADED"
        )
        assert client.get("/docs").status_code == 200
        assert "/api/embed" in client.get("/openapi.json").json()["paths"]

        lines = [line.split(" | ") for line in server.stdout.splitlines()]
        assert {len(columns) for columns in lines} == {7}
        (line,) = [columns for columns in lines if columns[1] == body["request_id"]]
        assert line[2:5] == ["127.0.0.1", "/api/embed", "200"]
        assert line[6] == "minilm"
        assert float(line[5]) > 0
        (host,) = server.hosts()
        assert host.is_running()
    assert "Traceback" not in server.stderr


def test_uvicorn_with_the_key_that_the_first_start_shows(tmp_path: Path) -> None:
    with Server(tmp_path, command=UVICORN, environment={}) as server, server.client() as client:
        (key,) = set(re.findall(r"Bearer ([^\s\"]+)", server.stderr))
        refused = client.post("/api/embed", json={"texts": ["a"]})
        assert refused.status_code == 401
        assert envelope(refused)["code"] == "UNAUTHORIZED"
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("nonsense", key + "x", key[:-1], key.lower()):
            assert client.get("/api/models", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
        assert client.get("/api/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/health").status_code == 200
    assert key not in server.stdout
    assert key.encode() not in b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    for file in (tmp_path / "data").iterdir():
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, f"others may read {file.name}"

    with Server(tmp_path, command=UVICORN, environment={}) as again, again.client() as client:
        assert client.get("/api/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/api/models").status_code == 401
    assert "Bearer" not in again.stderr
    assert "first start" not in again.stderr
    with sqlite3.connect(tmp_path / "data" / "state.db") as database:
        assert database.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize("command", [SERVE, UVICORN], ids=["serve", "uvicorn"])
def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    with Server(tmp_path / "first", environment={**KEYLESS, "HOMELAB_AI__DATA_DIR": str(tmp_path / "data")}) as first:
        second = Server(
            tmp_path / "second", command=command, environment={"HOMELAB_AI__DATA_DIR": str(tmp_path / "data")}
        )
        assert second.wait_until_ended() != 0
        assert "Another process is already serving from the data folder" in second.stderr
        assert "Traceback" not in second.stderr
        assert "Bearer" not in second.stderr
        assert httpx.get(f"{first.url}/ready").status_code == 200


@pytest.mark.parametrize("command", [SERVE, UVICORN], ids=["serve", "uvicorn"])
@pytest.mark.parametrize(
    ("config", "line", "says"),
    [
        ("server:\n  port: 8000\n  prot: 1\n", 3, "prot"),
        ("server:\n  port: [\n", 3, ""),
        ("# a comment\nlimits:\n  max_texts: many\n", 3, "max_texts"),
    ],
    ids=["unknown setting", "broken YAML", "wrong type"],
)
def test_a_broken_configuration_is_told_with_file_and_line(
    tmp_path: Path, command: tuple[str, ...], config: str, line: int, says: str
) -> None:
    server = Server(tmp_path, command=command, config=config)

    assert server.wait_until_ended() != 0
    assert re.search(rf"config\.yaml\D{{1,10}}{line}\b", server.stderr), server.stderr
    assert says in server.stderr
    assert "Traceback" not in server.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [(SERVE, "cannot be listened on: another program has it (ss "), (UVICORN, "address already in use")],
    ids=["serve", "uvicorn"],
)
def test_a_port_in_use_is_told(tmp_path: Path, command: tuple[str, ...], says: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(tmp_path, command=command, port=port)

        assert server.wait_until_ended() != 0
        assert says in server.stderr
        assert str(port) in server.stderr
        assert "Traceback" not in server.stderr
        assert not server.hosts()


def test_a_start_that_cannot_listen_uses_up_no_first_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = Server(tmp_path, port=taken.getsockname()[1], environment={})
        assert refused.wait_until_ended() != 0
    assert "hlab_" not in refused.stderr
    assert not (tmp_path / "data").exists()


def test_configuration_host_and_port_from_the_command_line(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "elsewhere" / "my.yaml"
    config.parent.mkdir()
    config.write_text(
        f"server: {{host: 127.0.0.9, port: 1, allowed_hosts: ['127.0.0.2']}}\ndata_dir: {tmp_path / 'kept'}\n"
        "security: {auth_enabled: false}\nmodels: {text_embedding: [{id: only, hf_model: a/b}], image_caption: []}\n"
    )
    command = ("-m", "homelab_ai", "serve", "--config", str(config), "--host", "127.0.0.2")
    server = Server(tmp_path / "run", command=command, port=port, environment={})
    server.url = f"http://127.0.0.2:{port}"
    with server, server.client() as client:
        assert [model["id"] for model in client.get("/api/models").json()["models"]] == ["only"]
        assert (tmp_path / "kept" / "state.db").exists()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/health")


@pytest.mark.parametrize("arguments", [["--config", "nothing.yaml"], ["--port", "0"], ["--port", "x"], ["--nonsense"]])
def test_wrong_arguments_are_refused_with_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    done = run_command(["serve", *arguments], tmp_path)

    assert done.returncode != 0
    assert (arguments[-1] if "--port" not in arguments else "--port") in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_there(tmp_path: Path) -> None:
    for arguments, says in (([], "serve"), (["--help"], "serve"), (["serve", "--help"], "--port")):
        done = run_command(arguments, tmp_path)

        assert says in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_paragraph_of_the_help_is_as_wide_as_the_terminal(tmp_path: Path) -> None:
    """A break that stands in the code is none in what is printed."""
    assert "of a cloud's own services" in run_command(["doctor", "--help"], tmp_path).stdout


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run_command(["--version"], tmp_path)

    assert (done.returncode, done.stdout) == (0, f"{version('homelab-ai-api')}\n")


def run_command(arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the installed `homelab-ai`, or the module where only the source is here."""
    script = Path(sys.executable).with_name("homelab-ai")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "homelab_ai"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not script.exists():
        environment["PYTHONPATH"] = str(REPOSITORY / "src")
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment | {"NO_COLOR": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
