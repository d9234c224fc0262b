"""The service on a GPU: models come and go, and with them the memory of the card."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest

from support.reference import MINILM, TEXTS, cosines, vectors_of_texts
from support.server import Server, wait_for

pytestmark = pytest.mark.timeout(300)

CONFIG = f"""
models:
  image_caption: []
  text_embedding:
    - {{id: first, hf_model: {MINILM}, default: true}}
    - {{id: second, hf_model: {MINILM}, precision: float32}}
    - {{id: nowhere, hf_model: {MINILM}, device: "cuda:97"}}
    - {{id: on-cpu, hf_model: {MINILM}, device: cpu}}
resources: {{max_gpu_memory_gb: 1}}
"""

A_CONTEXT = 200 * 2**20
"""Bytes: of a card's memory, what a process takes at the very least once it calculates there."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("gpu"), config=CONFIG) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
        for model in ("first", "second", "on-cpu"):
            client.post(f"/api/models/{model}/unload")


def memory_used() -> int:
    """Bytes of the first card that all programs together take."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout) * 2**20


def near(before: int) -> Callable[[], bool]:
    return lambda: abs(memory_used() - before) < A_CONTEXT / 4


def embed(client: httpx.Client, model: str, texts: list[str]) -> list[list[float]]:
    answer = client.post("/api/embed", json={"texts": texts, "model": model})
    assert answer.status_code == 200, answer.text
    vectors: list[list[float]] = answer.json()["embeddings"]
    return vectors


def test_a_model_is_loaded_on_the_card_and_unloading_gives_all_of_it_back(client: httpx.Client) -> None:
    before = memory_used()
    vectors = embed(client, "first", TEXTS)
    about = client.get("/api/models/first").json()
    taken = memory_used() - before

    assert cosines(vectors, vectors_of_texts()).min() >= 0.999
    assert (about["state"], about["backend"], about["device"]) == ("ready", "torch", "cuda:0")
    assert about["precision"] == "float16"
    assert taken > A_CONTEXT
    # What is said is what is taken, within what the driver's context may be on another card.
    assert abs(about["gpu_memory_bytes"] - taken) < 300 * 2**20, (about["gpu_memory_bytes"], taken)
    client.post("/api/models/first/unload")
    wait_for(near(before))


def test_the_budget_of_the_card_holds_one_and_the_other_goes(client: httpx.Client) -> None:
    for model, other in [("first", "second"), ("second", "first")] * 2:
        embed(client, model, ["one text"])
        states = {each["id"]: each["state"] for each in client.get("/api/models").json()["models"]}
        assert (states[model], states[other]) == ("ready", "available")


def test_a_model_on_the_cpu_takes_nothing_of_the_card(client: httpx.Client) -> None:
    embed(client, "first", ["one text"])
    vectors = embed(client, "on-cpu", TEXTS)
    about = client.get("/api/models/on-cpu").json()

    assert cosines(vectors, vectors_of_texts()).min() >= 0.999
    assert (about["device"], about["gpu_memory_bytes"]) == ("cpu", 0)
    assert client.get("/api/models/first").json()["state"] == "ready", "there is room for both"


def test_a_card_that_is_not_there_is_named(client: httpx.Client) -> None:
    answer = client.post("/api/embed", json={"texts": ["one text"], "model": "nowhere"})

    assert answer.status_code == 503
    assert "cuda:97" in answer.json()["error"]["message"]
    assert "cuda:0" in answer.json()["error"]["message"]


def test_a_host_that_is_killed_gives_the_card_back_and_the_next_request_is_answered(
    server: Server, client: httpx.Client
) -> None:
    before = memory_used()
    embed(client, "first", ["one text"])
    (host,) = server.hosts()
    os.kill(host.pid, signal.SIGKILL)
    assert cosines(embed(client, "first", TEXTS), vectors_of_texts()).min() >= 0.999
    client.post("/api/models/first/unload")
    wait_for(near(before))


def test_loading_again_and_again_takes_no_more_of_the_card(client: httpx.Client) -> None:
    before = memory_used()
    for _ in range(8):
        embed(client, "first", ["one text"] * 64)
        client.post("/api/models/first/unload")
    wait_for(near(before))
