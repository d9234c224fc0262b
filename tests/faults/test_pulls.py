"""Downloads through the whole service, from a small hub on loopback: asked for, followed, broken off, and taken up."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.disk import fill, small_disk
from support.hub import MB, Fault, Hub, environment
from support.reference import MINILM, TEXTS, cosines, vectors_of_texts
from support.server import Server, free_port, wait_for

NAME = "org/name"
ADDED = {"type": "text_embedding", "id": "new", "hf_model": NAME}
MADE_UP = {"config.json": b"{}", "model.safetensors": os.urandom(6 * MB)}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.push(NAME, MADE_UP)
        yield hub


def serve(folder: Path, hub: Hub | None = None, **more: str) -> Server:
    asked = hub.environment if hub else environment(f"http://127.0.0.1:{free_port()}")
    home = {"HF_HOME": str(folder / "hf_home"), "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    return Server(folder, environment={**asked, **home, **more})


def download(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/api/models/new").json()["download"]
    return answer


def events(client: httpx.Client) -> Iterator[tuple[str, dict[str, Any]]]:
    """Follow the download as a browser does."""
    with client.stream("GET", "/api/models/new/pull") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        event = ""
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                yield event, json.loads(value)


def ended(client: httpx.Client) -> dict[str, Any]:
    wait_for(lambda: download(client)["state"] != "running", 30)
    return download(client)


@pytest.mark.timeout(120)
def test_a_model_is_added_pulled_followed_served_and_purged(tmp_path: Path, hub: Hub) -> None:
    real = {str(path.relative_to(MINILM)): path.read_bytes() for path in MINILM.rglob("*") if path.is_file()}
    commit = hub.push(NAME, real)
    hub.faults.append(Fault(cut_after=30 * MB))
    with serve(tmp_path, hub) as server, server.client() as client:
        answer = client.post("/api/models", json={**ADDED, "pull": True})
        assert (answer.status_code, answer.json()["state"]) == (201, "downloading")

        told = list(events(client))

        sizes = [data["bytes"] for _, data in told]
        assert sizes == sorted(sizes)
        assert [event for event, _ in told if event != "running"] == ["done"]
        all_here = {"bytes": sizes[-1], "total_bytes": sizes[-1], "seconds_left": None}
        assert told[-1][1] == {"state": "done", **all_here, "failure": None}
        assert [request for request in hub.transfers() if request], "it was cut, and has gone on"
        assert (download(client), client.get("/api/models/new").json()["state"]) == (told[-1][1], "available")

        answer = client.post("/api/embed", json={"texts": TEXTS[6:9], "model": "new"})
        assert cosines(answer.json()["embeddings"], vectors_of_texts()[6:9]).min() > 0.9999
        before = len(hub.requests)
        client.post("/api/models/new/unload")
        client.post("/api/models/new/load")
        assert len(hub.requests) == before, "what is here is not asked for again"

        files = tmp_path / "models" / "models--org--name"
        assert (files / "snapshots" / commit / "model.safetensors").is_file()
        purged = client.delete("/api/models/new?purge=true").json()["purged_bytes"]
        assert 1.9 * sizes[-1] <= purged < 2.1 * sizes[-1], "the download and its export"
        assert not (tmp_path / "models" / "exports" / files.name).exists()
        assert not files.exists()


@pytest.mark.timeout(120)
def test_the_first_request_downloads_and_all_that_come_meanwhile_share_it(tmp_path: Path, hub: Hub) -> None:
    hub.always = Fault(pause_after=2 * MB)
    with serve(tmp_path, hub) as server, server.client() as client, ThreadPoolExecutor(12) as pool:
        client.post("/api/models", json=ADDED)
        asking = [pool.submit(client.post, "/api/embed", json={"texts": ["a"], "model": "new"}) for _ in range(6)]
        pulls = [pool.submit(client.post, "/api/models/new/pull") for _ in range(6)]
        assert {pull.result().status_code for pull in pulls} == {202}
        assert hub.paused.wait(20)
        shown = client.get("/api/models/new").json()
        assert (shown["state"], shown["active_requests"]) == ("downloading", 6)
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200, "the others go on"
        hub.resume.set()
        # These files are no model; but they have come, once, and it is the engine that says so.
        for each in asking:
            assert each.result().json()["error"]["code"] == "MODEL_LOAD_FAILED"
        assert hub.transfers() == [None]
        assert download(client)["state"] == "done"


@pytest.mark.timeout(120)
def test_a_download_outlives_the_service_in_what_has_come(tmp_path: Path, hub: Hub) -> None:
    hub.faults.append(Fault(pause_after=4 * MB))
    with serve(tmp_path, hub) as server, server.client() as client:
        client.post("/api/models", json={**ADDED, "pull": True})
        assert hub.paused.wait(20)
        wait_for(lambda: download(client)["bytes"] >= 3 * MB)
        (host,) = server.hosts()
        server.kill()
        wait_for(lambda: not host.is_running())
        hub.resume.set()
    with serve(tmp_path, hub) as server, server.client() as client:
        assert client.get("/api/models/new").json()["download"] is None
        assert client.post("/api/models/new/pull").status_code == 202
        assert ended(client)["state"] == "done"
    first, second = hub.transfers()
    assert first is None
    assert second
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 3 * MB


@pytest.mark.timeout(120)
def test_a_download_whose_process_is_killed_fails_and_can_be_taken_up(tmp_path: Path, hub: Hub) -> None:
    hub.faults.append(Fault(pause_after=4 * MB))
    with serve(tmp_path, hub) as server, server.client() as client:
        client.post("/api/models", json={**ADDED, "pull": True})
        assert hub.paused.wait(20)
        (host,) = server.hosts()
        host.send_signal(signal.SIGKILL)
        failed = ended(client)
        assert failed["state"] == "failed"
        assert "SIGKILL" in failed["failure"]
        assert list(events(client)) == [("failed", failed)]
        hub.resume.set()
        client.post("/api/models/new/pull")
        assert ended(client)["state"] == "done"


def test_a_hub_that_cannot_be_reached_is_said_with_what_mends_it(tmp_path: Path) -> None:
    with serve(tmp_path) as server, server.client() as client:
        client.post("/api/models", json=ADDED)
        answer = client.post("/api/embed", json={"texts": ["a"], "model": "new"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], answer.headers["Retry-After"]) == (503, "MODEL_LOAD_FAILED", "5")
        assert "the hub cannot be reached" in error["message"]
        assert "put its files into the folder org/name inside the models folder" in error["message"]
        assert str(tmp_path) not in answer.text
        assert client.get("/api/models/new").json()["state"] == "failed"
        for name, content in {"config.json": b"{}", "model.safetensors": b"not weights"}.items():
            file = tmp_path / "models" / NAME / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        error = client.post("/api/models/new/load").json()["error"]
        assert "hub" not in error["message"], "the files are there now, whatever they are"


def test_offline_nothing_is_asked(tmp_path: Path, hub: Hub) -> None:
    with serve(tmp_path, hub, HF_HUB_OFFLINE="1") as server, server.client() as client:
        client.post("/api/models", json={**ADDED, "pull": True})
        assert "HF_HUB_OFFLINE" in ended(client)["failure"]
        assert hub.requests == []


@pytest.mark.timeout(120)
def test_the_end_of_the_service_does_not_wait_for_those_who_follow(tmp_path: Path, hub: Hub) -> None:
    hub.always = Fault(pause_after=MB)
    with serve(tmp_path, hub) as server, server.client() as client, ThreadPoolExecutor() as pool:
        client.post("/api/models", json={**ADDED, "pull": True})
        following = [pool.submit(lambda: list(events(client))) for _ in range(3)]
        assert hub.paused.wait(20)
        time.sleep(0.5)
        started = time.monotonic()
        server.stop(signal.SIGTERM, seconds=20)
        assert time.monotonic() - started < 15
        assert all(follower.result()[0][0] == "running" for follower in following)
        assert "Traceback" not in server.stderr


@pytest.mark.timeout(120)
def test_those_who_hang_up_leave_nothing_behind(tmp_path: Path, hub: Hub) -> None:
    hub.always = Fault(pause_after=MB)
    with serve(tmp_path, hub) as server, server.client() as client:
        client.post("/api/models", json={**ADDED, "pull": True})
        assert hub.paused.wait(20)
        for _ in range(20):
            with server.client() as other, other.stream("GET", "/api/models/new/pull") as stream:
                next(stream.iter_lines())
        hub.resume.set()
        assert ended(client)["state"] == "done"
        assert "Traceback" not in server.stderr


@pytest.mark.timeout(120)
def test_a_disk_that_is_too_small_is_said_before_and_nothing_else_suffers(tmp_path: Path, hub: Hub) -> None:
    with small_disk(tmp_path / "models", 4), serve(tmp_path, hub) as server, server.client() as client:
        client.post("/api/models", json={**ADDED, "pull": True})
        failure = ended(client)["failure"]
        assert "needs 0.006 GB more in the models folder, where 0.004 GB are free" in failure
        assert hub.transfers() == [], "nothing is begun that cannot be finished"
        answer = client.post("/api/embed", json={"texts": ["a"], "model": "new"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "MODEL_LOAD_FAILED")
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
        assert client.get("/ready").status_code == 200


def test_models_cannot_be_added_to_a_full_disk_and_nothing_has_changed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 1) as disk:
        with serve(tmp_path) as server, server.client() as client:
            filler = fill(disk)
            answers = [client.post("/api/models", json={**ADDED, "id": f"new-{n}"}) for n in range(200)]
            refused = [answer for answer in answers if answer.status_code != 201]
            assert refused
            assert {answer.json()["error"]["code"] for answer in refused} == {"RESOURCE_EXHAUSTED"}
            listed = {model["id"] for model in client.get("/api/models").json()["models"]}
            assert {answer.json()["id"] for answer in answers if answer.status_code == 201} <= listed
            assert str(tmp_path) not in refused[0].text
            filler.unlink()
            assert client.post("/api/models", json=ADDED).status_code == 201
        with serve(tmp_path) as server, server.client() as client:
            assert {model["id"] for model in client.get("/api/models").json()["models"]} == listed | {"new"}
