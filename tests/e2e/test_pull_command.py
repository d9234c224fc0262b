"""`homelab-ai pull`, and what else waits for a download: watched, left, and broken off."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from homelab_ai.cli import cli
from support.hub import MB, Fault, Hub
from support.server import Server, wait_for
from support.terminal import Terminal

NAME = "org/name"
MADE_UP = {"config.json": b"{}", "model.safetensors": os.urandom(6 * MB)}
ADDED = {"type": "text_embedding", "id": "new", "hf_model": NAME}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.push(NAME, MADE_UP)
        yield hub


@pytest.fixture
def server(tmp_path: Path, hub: Hub) -> Iterator[Server]:
    with serve(tmp_path, hub) as server:
        yield server


def serve(folder: Path, hub: Hub) -> Server:
    home = {"HF_HOME": str(folder / "hf_home"), "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    return Server(folder, environment={**hub.environment, **home})


def run(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"HOMELAB_AI_URL": server.url})


def state(server: Server, model: str) -> str:
    with server.client() as client:
        return str(client.get(f"/api/models/{model}").json()["download"]["state"])


def test_a_hub_name_is_added_and_downloaded(server: Server, hub: Hub) -> None:
    done = run(server, "pull", NAME)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "homelab-ai pull org/name --type text_embedding (or image_caption) adds it" in done.stderr
    assert hub.requests == []
    done = run(server, "pull", NAME, "--type", "text_embedding")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "name is here: 6.3 MB\n", "")
    for name in (NAME, "name"):
        again = run(server, "pull", name, "--json")
        assert (again.exit_code, json.loads(again.stdout)["download"]["state"]) == (0, "done")
    assert len(hub.transfers()) == 1
    done = run(server, "pull", "nothing")
    assert (done.exit_code, "there are blip-base" in done.stderr) == (3, True)


def test_a_model_is_added_and_downloaded_at_once(server: Server, hub: Hub) -> None:
    done = run(server, "add", "text_embedding", "new", NAME, "--pull")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "new is here: 6.3 MB\n", "")
    assert len(hub.transfers()) == 1
    done = run(server, "rm", "new", "--purge")
    assert (done.exit_code, done.stdout) == (0, "new is removed, and 6.3 MB of its files\n")


def test_a_download_that_fails_is_said(server: Server, hub: Hub) -> None:
    hub.hidden.add(NAME)
    for arguments in (("add", "text_embedding", "new", NAME, "--pull"), ("pull", "new")):
        done = run(server, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("new could not be downloaded: ")
    done = run(server, "pull", "new", "--json")
    assert (done.exit_code, json.loads(done.stdout)["download"]["state"]) == (1, "failed")


def test_a_folder_has_nothing_to_download(server: Server) -> None:
    folder = server.folder / "models" / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert run(server, "add", "text_embedding", "mine", "./mine").exit_code == 0
    done = run(server, "pull", "mine")
    assert (done.exit_code, "there is nothing to download" in done.stderr) == (4, True)


@pytest.mark.timeout(120)
def test_a_person_watches_a_download_leaves_it_and_comes_back(server: Server, hub: Hub) -> None:
    hub.faults.append(Fault(pause_after=4 * MB))
    at = {"HOMELAB_AI_URL": server.url}
    with Terminal("pull", NAME, "--type", "text_embedding", environment=at) as terminal:
        terminal.wait_for("4.2/6.3 MB")
        terminal.type("\x03")
        assert terminal.ended() == 130
    assert "The download goes on without you: homelab-ai pull name shows it again" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert state(server, "name") == "running"

    with Terminal("pull", "name", environment=at) as terminal:
        terminal.wait_for("/6.3 MB")
        hub.resume.set()
        assert terminal.ended() == 0
    assert re.search(r"name .*6\.3/6\.3 MB", terminal.seen)
    assert "name is here: 6.3 MB" in terminal.seen
    assert hub.transfers() == [None], "one download all the while"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_goes_in_the_middle_is_said_and_nothing_is_lost(
    tmp_path: Path, hub: Hub, signal_number: signal.Signals
) -> None:
    hub.faults.append(Fault(pause_after=4 * MB))
    with serve(tmp_path, hub) as server:
        at = {"HOMELAB_AI_URL": server.url}
        with Terminal("pull", NAME, "--type", "text_embedding", environment=at) as terminal:
            terminal.wait_for("4.2/6.3 MB")
            server.process.send_signal(signal_number)
            assert terminal.ended() == 1
        server.wait_until_ended()
    assert "homelab-ai pull name goes on from there" in terminal.seen.replace("\n", " ")
    assert "Traceback" not in terminal.seen
    hub.resume.set()
    with serve(tmp_path, hub) as server:
        assert run(server, "pull", "name").stdout == "name is here: 6.3 MB\n"
    first, second = hub.transfers()
    assert (first, bool(second)) == (None, True), "it has gone on where it was"


@pytest.mark.timeout(120)
def test_a_load_shows_its_download_and_waits_for_what_comes_then(server: Server, hub: Hub) -> None:
    hub.always = Fault(pause_after=2 * MB)
    with server.client() as client:
        client.post("/api/models", json=ADDED)
    with Terminal("load", "new", environment={"HOMELAB_AI_URL": server.url}) as terminal:
        terminal.wait_for("/6.3 MB")
        hub.resume.set()
        terminal.wait_for("6.3/6.3 MB")
        downloaded = terminal.seen.index("6.3/6.3 MB")
        wait_for(lambda: "loading new ..." in terminal.seen[downloaded:])
        terminal.type("\x03")
        assert terminal.ended() == 130
    assert "The load goes on without you: homelab-ai load new waits for it again" in terminal.seen
    assert state(server, "new") == "done"


@pytest.mark.timeout(120)
def test_a_load_waits_longer_than_a_request_may_and_goes_on_without_who_asked(tmp_path: Path, hub: Hub) -> None:
    hub.always = Fault(pause_after=2 * MB)
    home = {"HF_HOME": str(tmp_path / "hf_home"), "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    short = {"HOMELAB_AI__RESOURCES__REQUEST_TIMEOUT_SECONDS": "0.5"}
    with Server(tmp_path, environment={**hub.environment, **home, **short}) as server:
        with server.client() as client:
            client.post("/api/models", json=ADDED)
        at = {"HOMELAB_AI_URL": server.url}
        with Terminal("load", "new", environment=at) as terminal:
            terminal.wait_for("/6.3 MB")
            wait_for(lambda: server.stdout.count("/load | 504") >= 2)
            terminal.type("\x03")
            assert terminal.ended() == 130
        assert state(server, "new") == "running"
        hub.resume.set()
        wait_for(lambda: state(server, "new") == "done", 30)
