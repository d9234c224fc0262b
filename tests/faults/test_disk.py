"""Disks that cannot be used: the service says so in a sentence, and what does not need the disk goes on."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from homelab_ai.state import State
from support.disk import fill, small_disk
from support.server import Server


def refusal(folder: Path, data_dir: Path) -> str:
    """What is said by a start that is refused."""
    environment = {"HOMELAB_AI__DATA_DIR": str(data_dir), "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    server = Server(folder, environment=environment)
    assert server.wait_until_ended() != 0
    assert "Traceback" not in server.stderr
    return server.stderr


def test_a_file_in_the_place_of_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")

    said = refusal(tmp_path, tmp_path / "data")

    assert f"The data folder {tmp_path / 'data'} cannot be used" in said
    assert (tmp_path / "data").read_text() == "not a folder"


def test_a_data_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    assert "cannot be used" in refusal(tmp_path, tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_data_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o555)

    assert "cannot be used" in refusal(tmp_path, tmp_path / "data")


def test_a_damaged_state(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    damaged = b"this is no database " * 1000
    (tmp_path / "data" / "state.db").write_bytes(damaged)

    said = refusal(tmp_path, tmp_path / "data")

    assert "state.db" in said
    assert "move it away" in said
    assert (tmp_path / "data" / "state.db").read_bytes() == damaged, "what is damaged may still be worth something"


def test_a_state_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "state.db").mkdir(parents=True)

    assert "state.db" in refusal(tmp_path, tmp_path / "data")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1) as disk:
        fill(disk)
        yield disk


def test_a_full_disk(tmp_path: Path, full_disk: Path) -> None:
    said = refusal(tmp_path, full_disk / "data")
    assert "cannot be used" in said
    assert "Bearer" not in said, "a key was shown that is not kept"

    (full_disk / "filler").unlink()
    with Server(
        tmp_path,
        environment={
            "HOMELAB_AI__DATA_DIR": str(full_disk / "data"),
            "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true",
        },
    ):
        pass


def test_a_key_that_a_full_disk_cannot_keep_is_not_made(settings: Settings, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        on_it = settings.model_copy(update={"data_dir": disk / "data"})
        with TestClient(create_app(on_it), base_url="http://localhost", client=("127.0.0.1", 1)) as client:
            made = client.post("/api/keys", json={"name": "before"})
            fill(disk)
            names = [f"key-{number}" for number in range(200)]  # SQLite has some room of its own
            answers = [client.post("/api/keys", json={"name": name}) for name in names]
            told = {"before"} | {name for name, answer in zip(names, answers, strict=True) if answer.status_code == 201}
            last = answers[-1]
            assert last.status_code == 503
            assert "No key was made" in last.json()["error"]["message"]
            assert "hlab_" not in last.text
            assert str(disk) not in last.text
            listed = {key["name"] for key in client.get("/api/keys").json()["keys"]}
            assert listed == told | {"admin"}
            assert client.get("/api/models", headers={"Authorization": f"Bearer {made.json()['key']}"}).is_success
            (disk / "filler").unlink()
            assert client.delete("/api/keys/before").status_code == 204
        state = State.open(disk / "data")
        assert {key.name for key in state.api_keys()} == listed - {"before"}
        state.close()


def remove(state: Path) -> None:
    for file in state.parent.glob("state.db*"):
        file.unlink()


def remove_folder(state: Path) -> None:
    for file in state.parent.iterdir():
        file.unlink()
    state.parent.rmdir()


def cut_short(state: Path) -> None:
    """What ends a process with SIGBUS that has mapped one of them."""
    for file in state.parent.glob("state.db*"):
        file.write_bytes(b"")
    replace(state)


def replace(state: Path) -> None:
    (state.parent / "new").write_bytes(b"this is no database " * 1000)
    (state.parent / "new").rename(state)


@pytest.mark.parametrize("harm", [remove, remove_folder, cut_short, replace], ids=lambda harm: harm.__name__)
def test_a_service_whose_state_is_lost_is_not_ready(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    with Server(tmp_path) as server, server.client() as client:
        harm(tmp_path / "data" / "state.db")

        answer = client.get("/ready")

        assert client.get("/health").status_code == 200
        assert client.get("/api/models").status_code == 200
        assert "Traceback" not in server.stderr
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "RESOURCE_EXHAUSTED"
        assert str(tmp_path) not in answer.text


def test_embedding_goes_on_when_the_state_is_lost(tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.client() as client:
        for harm in (cut_short, remove_folder):
            harm(tmp_path / "data" / "state.db")

            assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
        assert "Traceback" not in server.stderr
