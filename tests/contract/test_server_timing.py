"""The header `Server-Timing`: where the time of a request went, as far as it is known."""

import re

from starlette.testclient import TestClient

from homelab_ai.api.timing import server_timing
from homelab_ai.models.timing import Timing
from support.hosts import FakeHost, FakeHosts

EMBED = {"texts": ["a"]}
CAPTION = {"image": "aW1hZ2U6IGNhdA=="}
PART = re.compile(r"([a-z]+);dur=(\d+\.\d\d)")


def parts(header: str) -> dict[str, float]:
    """What a header says, in milliseconds, in its order."""
    found = [PART.fullmatch(part) for part in header.split(", ")]
    return {part[1]: float(part[2]) for part in found if part}


def saying(**seconds: float) -> FakeHosts:
    """Hosts that say of each run where its time went."""

    def prepare(host: FakeHost) -> None:
        host.says = {"seconds": seconds}

    hosts = FakeHosts()
    hosts.prepare = prepare
    return hosts


def test_it_says_what_the_engine_says_and_how_long_was_waited(client: TestClient, hosts: FakeHosts) -> None:
    hosts.prepare = saying(tokenize=0.0015, inference=0.25).prepare
    cold = parts(client.post("/api/embed", json=EMBED).headers["Server-Timing"])
    assert list(cold) == ["load", "queue", "tokenize", "inference"]
    assert (cold["tokenize"], cold["inference"]) == (1.5, 250)
    warm = parts(client.post("/api/embed", json=EMBED).headers["Server-Timing"])
    assert list(warm) == ["queue", "tokenize", "inference"]


def test_of_a_caption_it_says_how_long_the_image_was_decoded(client: TestClient, hosts: FakeHosts) -> None:
    hosts.prepare = saying(inference=0.25, vision=0.05, generation=0.2).prepare
    assert client.post("/api/caption", json=CAPTION).status_code == 200
    warm = parts(client.post("/api/caption", json=CAPTION).headers["Server-Timing"])
    assert list(warm) == ["decode", "queue", "inference", "vision", "generation"]
    assert (warm["inference"], warm["vision"], warm["generation"]) == (250, 50, 200)


def test_what_is_not_known_is_left_out(client: TestClient) -> None:
    client.post("/api/embed", json=EMBED)
    assert list(parts(client.post("/api/embed", json=EMBED).headers["Server-Timing"])) == ["queue"]
    assert server_timing(Timing()) == {}


def test_an_answer_without_a_run_has_none(client: TestClient) -> None:
    for response in (client.get("/api/models"), client.post("/api/embed", json={"texts": []}), client.get("/health")):
        assert "Server-Timing" not in response.headers
