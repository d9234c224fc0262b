"""`homelab-ai key`: against the running service, and in its data folder while none runs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from homelab_ai.cli import cli
from homelab_ai.state import State
from support.server import Server, free_port

BOSS = "the-key-of-the-boss"
CONFIG = f"""
security:
  api_keys: [{{name: boss, key_hash: {hashlib.sha256(BOSS.encode()).hexdigest()}, scopes: [admin, read]}}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG, environment={}) as server:
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder in which a service has once run."""
    State.open(tmp_path / "data").close()
    return tmp_path / "data"


def key(*arguments: str | Path, url: str | None = None, as_: str = BOSS) -> Result:
    environment = {"HOMELAB_AI_API_KEY": as_, "HOMELAB_AI_URL": url, "COLUMNS": "140"}
    return CliRunner().invoke(cli, ["key", *map(str, arguments)], env=environment)


def opens(server: Server, key: str) -> bool:
    with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        return client.get("/api/models").is_success


def test_a_key_is_made_listed_and_revoked(server: Server) -> None:
    made = key("add", "photos / kitchen", "--rate-limit", "600/minute", url=server.url)
    assert (made.exit_code, made.stderr) == (0, "")
    secret = made.stdout.strip()
    assert made.stdout == f"{secret}\n", "and nothing else"
    assert opens(server, secret)

    table = key("ls", url=server.url)
    assert table.exit_code == 0
    rows = {line.split("  ")[0]: line for line in table.stdout.splitlines()}
    assert "config.yaml" in rows["boss"]
    assert all(text in rows["photos / kitchen"] for text in ("caption crawl embed read", "all", "600/minute"))
    listed = json.loads(key("ls", "--json", url=server.url).stdout)["keys"]
    assert [each["name"] for each in listed] == ["boss", "photos / kitchen"]
    assert secret not in table.stdout

    assert key("rm", "photos / kitchen", url=server.url).exit_code == 0
    assert not opens(server, secret)


def test_a_revoked_key_is_refused_on_a_connection_that_is_open(server: Server) -> None:
    secret = key("add", "kept-open", url=server.url).stdout.strip()
    with server.client(headers={"Authorization": f"Bearer {secret}"}) as client:
        assert client.get("/api/models").status_code == 200
        assert key("rm", "kept-open", url=server.url).exit_code == 0
        assert client.get("/api/models").status_code == 401


def test_what_it_opens_is_chosen(server: Server) -> None:
    arguments = ("--scope", "embed", "--scope", "read", "--model", "minilm", "--model", "mpnet", "--json")
    made = json.loads(key("add", "chosen", *arguments, url=server.url).stdout)
    assert (made["scopes"], made["models"]) == (["embed", "read"], ["minilm", "mpnet"])
    assert made["key"].startswith("hlab_")
    assert key("rm", "chosen", url=server.url).exit_code == 0


def test_what_stands_in_the_way_is_said_and_has_a_status_of_its_own(server: Server) -> None:
    for arguments, status, said in (
        (("add", "boss"), 4, "config.yaml"),
        (("rm", "boss"), 4, "config.yaml"),
        (("rm", "nobody"), 3, "No key is called 'nobody'"),
        (("add", "x", "--scope", "all"), 2, "scopes"),
        (("add", "x", "--rate-limit", "often"), 2, "rate_limit"),
    ):
        done = key(*arguments, url=server.url)
        assert (done.exit_code, done.stdout) == (status, "")
        assert said in done.stderr
    done = key("add", "x", url=server.url, as_="wrong")
    assert (done.exit_code, "Set HOMELAB_AI_API_KEY" in done.stderr) == (1, True)
    done = key("ls", url=f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, "No service answers" in done.stderr) == (1, True)


def test_while_a_service_runs_its_folder_is_left_alone(server: Server) -> None:
    done = key("add", "x", "--data-dir", server.folder / "data", "--scope", "admin")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Another process is already serving" in done.stderr


def test_who_has_lost_every_key_makes_one_in_the_folder(data: Path) -> None:
    made = key("add", "rescue", "--data-dir", data, "--scope", "admin", "--scope", "read")
    assert made.exit_code == 0
    state = State.open(data)
    (stored,) = state.api_keys()
    state.close()
    assert stored.key_hash == hashlib.sha256(made.stdout.strip().encode()).hexdigest()
    assert "rescue" in key("ls", "--data-dir", data).stdout
    done = key("rm", "rescue", "--data-dir", data)
    assert (done.exit_code, "--force" in done.stderr) == (4, True)
    assert key("rm", "rescue", "--force", "--data-dir", data).exit_code == 0
    assert json.loads(key("ls", "--json", "--data-dir", data).stdout) == {"keys": []}


def test_no_folder_is_made_by_a_slip(data: Path) -> None:
    done = key("add", "x", "--data-dir", data.parent / "dat")
    assert (done.exit_code, "no state.db" in done.stderr) == (2, True)
    assert not (data.parent / "dat").exists()
    for wrong in (("--scope", "all"), ("--rate-limit", "5")):
        assert key("add", "x", *wrong, "--data-dir", data).exit_code == 2


def test_a_shell_takes_the_key_as_it_is(data: Path) -> None:
    command = f'KEY=$("{sys.executable}" -m homelab_ai key add app --data-dir "{data}") && printf %s "$KEY" | sha256sum'
    done = subprocess.run(["sh", "-c", command], env=dict(os.environ), capture_output=True, text=True, check=True)
    state = State.open(data)
    assert done.stdout.split()[0] == state.api_keys()[0].key_hash
    state.close()
