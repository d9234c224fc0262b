"""Models that come and go, with real processes and a real model: what is loaded, and where the memory is."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support.reference import HUB_NAME, cosines, vectors_of_texts
from support.reference import TEXTS as SAMPLE
from support.server import Server, wait_for

HOST_BYTES = 80 * 1024**2
"""Less than a host with a model takes."""
CYCLES = int(os.environ.get("HOMELAB_AI_TEST_CYCLES", "3"))


def config(resources: str, *extra: str, backend: str = "auto") -> str:
    """Two models, both real: the same weights, of which one reads only the beginning of a text."""
    entries = [
        f"    - {{id: one, hf_model: {HUB_NAME}, backend: {backend}, default: true}}",
        f"    - {{id: two, hf_model: {HUB_NAME}, backend: {backend}, max_length: 64}}",
        *extra,
    ]
    return "\n".join(
        [
            "models:",
            "  image_caption: []",
            "  text_embedding:",
            *entries,
            f"resources: {resources}",
            "security: {allow_localhost: true}",
        ]
    )


def embed(client: httpx.Client, model: str, texts: list[str] | None = None) -> list[list[float]]:
    answer = client.post("/api/embed", json={"texts": texts or ["a text"], "model": model})
    assert answer.status_code == 200, answer.text
    vectors: list[list[float]] = answer.json()["embeddings"]
    return vectors


def models(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in client.get("/api/models").json()["models"]}


def private_bytes(process: psutil.Process) -> int:
    """What it alone takes, as another program measures it."""
    return int(process.memory_full_info().uss)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Server]:
    """A service that has room for one of its two models."""
    with Server(tmp_path, config=config("{max_memory_gb: 0.7, device: cpu}", backend="torch")) as server:
        yield server


@pytest.mark.timeout(180)
def test_two_models_that_do_not_fit_together_take_turns(small: Server) -> None:
    expected = vectors_of_texts()[6:9]
    with small.client() as client:
        for round_ in range(2):
            for model, other in (("one", "two"), ("two", "one")):
                vectors = embed(client, model, SAMPLE[6:9])
                assert cosines(vectors, expected).min() > 0.9999, (round_, model)
                states = models(client)
                assert states[model]["state"] == "ready"
                assert states[other]["state"] == "available"
                (host,) = small.hosts()
                assert states[model]["memory_bytes"] == pytest.approx(private_bytes(host), rel=0.2)
                assert states[other]["memory_bytes"] == 0
        assert {name: model["loads"] for name, model in models(client).items()} == {"one": 2, "two": 2}


@pytest.mark.timeout(180)
def test_requests_for_both_at_once_are_all_answered_and_never_both_are_loaded(small: Server) -> None:
    most = 0
    with small.client() as client, ThreadPoolExecutor(8) as pool:
        embed(client, "one")
        answers = [pool.submit(embed, client, name) for name in ("one", "two") * 8]
        while not all(answer.done() for answer in answers):
            most = max(most, len(small.hosts()))
            time.sleep(0.02)
        for answer in answers:
            assert len(answer.result()[0]) == 384
        assert most == 1
        assert sum(model["loads"] for model in models(client).values()) < 8  # those who wait share a load


@pytest.mark.timeout(120)
def test_a_model_goes_shortly_after_its_last_answer_and_its_memory_with_it(tmp_path: Path) -> None:
    keep_alive = 2.0
    resources = f"{{model_keep_alive_minutes: {keep_alive / 60}}}"
    with Server(tmp_path, config=config(resources)) as server, server.client() as client:
        embed(client, "one")
        (host,) = server.hosts()
        for _ in range(4):  # each answer starts its time anew
            time.sleep(keep_alive / 2)
            embed(client, "one")
            answered = time.monotonic()
        assert server.hosts() == [host]
        assert 0 < models(client)["one"]["unloads_in_seconds"] <= keep_alive
        assert private_bytes(host) > HOST_BYTES
        wait_for(lambda: not server.hosts())
        assert time.monotonic() - answered > keep_alive - 0.1
        wait_for(lambda: not host.is_running())  # and its memory is back with it, as the kernel has it
        state = models(client)["one"]
        assert (state["state"], state["memory_bytes"]) == ("available", 0)
        embed(client, "one")


@pytest.mark.timeout(60 * max(1, CYCLES))
def test_loads_and_unloads_leave_nothing_behind(tmp_path: Path) -> None:
    with Server(tmp_path, config=config("{}")) as server, server.client() as client:
        service = psutil.Process(server.process.pid)

        def cycle() -> tuple[int, int, int]:
            assert client.post("/api/models/one/load").json()["state"] == "ready"
            assert len(server.hosts()) == 1
            embed(client, "one")
            assert client.post("/api/models/one/unload").json()["state"] == "available"
            assert server.hosts() == []
            return service.num_fds(), len(service.children(recursive=True)), private_bytes(service)

        cycle()
        first = cycle()
        for _ in range(CYCLES):
            last = cycle()
        assert last[:2] == first[:2]
        assert last[2] < first[2] + 5 * 1024**2


@pytest.mark.timeout(120)
def test_a_host_that_stops_answering_is_unloaded_all_the_same(tmp_path: Path) -> None:
    with Server(tmp_path, config=config("{}")) as server, server.client() as client:
        embed(client, "one")
        (host,) = server.hosts()
        os.kill(host.pid, signal.SIGSTOP)
        answer = client.post("/api/models/one/unload")
        assert (answer.status_code, answer.json()["state"]) == (200, "available")
        assert not host.is_running()
        embed(client, "one")


@pytest.mark.timeout(120)
def test_unloads_during_requests_cost_no_answer(tmp_path: Path) -> None:
    with Server(tmp_path, config=config("{}")) as server, server.client() as client, ThreadPoolExecutor(6) as pool:
        embed(client, "one")
        texts = ["some words to read here " * 20] * 40
        for _ in range(2):
            answers = [pool.submit(embed, client, "one", texts) for _ in range(5)]
            time.sleep(0.1)
            assert client.post("/api/models/one/unload").status_code == 200
            for answer in answers:
                assert len(answer.result()) == 40
        assert len(server.hosts()) <= 1


def test_a_model_that_does_not_fit_is_refused_with_the_figures(tmp_path: Path) -> None:
    text = config("{max_memory_gb: 0.2}")
    with Server(tmp_path, config=text) as server, server.client() as client:
        answer = client.post("/api/embed", json={"texts": ["a"]})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "RESOURCE_EXHAUSTED")
        assert error["details"]["needed_memory_bytes"] > error["details"]["max_memory_bytes"] == int(0.2 * 1024**3)
        assert "max_memory_gb" in error["message"]
        assert server.hosts() == []
        assert client.get("/ready").status_code == 200
