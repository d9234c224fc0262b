"""Model hosts that die or hang under a running service: everybody is answered, and the next request works."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from support.reference import cosines
from support.server import Server, assert_goes_first_when_memory_ends, wait_for

LONG = ["some words to read here " * 50] * 40
"""A second of work and more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        assert client.post("/api/embed", json={"texts": ["warm up"]}).status_code == 200
        yield client


def the_host(server: Server) -> psutil.Process:
    (host,) = server.hosts()
    return host


def working(host: psutil.Process) -> bool:
    return bool(host.cpu_percent(0.05) > 30)


def at_work(client: httpx.Client) -> int:
    """How many requests the models have taken and not answered."""
    return sum(model["active_requests"] for model in client.get("/api/status").json()["models"])


def assert_answered(answer: httpx.Response, dimensions: int = 384) -> None:
    """Either a right answer or an error as errors are; which of them is the luck of the moment."""
    if answer.status_code == 200:
        assert {len(vector) for vector in answer.json()["embeddings"]} == {dimensions}
        return
    (error,) = answer.json().values()
    assert (answer.status_code, error["code"]) in {
        (500, "INFERENCE_FAILED"),
        (503, "MODEL_LOAD_FAILED"),
        (504, "TIMEOUT"),
    }
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.text
    assert "/" not in error["message"]


def test_a_request_whose_host_is_killed_is_answered_by_a_fresh_one(server: Server, client: httpx.Client) -> None:
    expected = client.post("/api/embed", json={"texts": LONG[:1]}).json()["embeddings"][0]
    for moment in ("working", "idle", "working", "idle", "working"):
        host = the_host(server)
        with ThreadPoolExecutor() as pool:
            if moment == "working":
                answer = pool.submit(client.post, "/api/embed", json={"texts": LONG})
                wait_for(lambda host=host: working(host))  # type: ignore[misc]
                host.kill()
            else:
                host.kill()
                answer = pool.submit(client.post, "/api/embed", json={"texts": LONG[:3]})

            assert answer.result(40).status_code == 200, answer.result().text

        vectors = answer.result().json()["embeddings"]
        assert cosines(vectors, [expected] * len(vectors)).min() > 0.9999
        # The host may have died just after its answer: then it is this request that a fresh one is started for.
        assert client.post("/api/embed", json={"texts": ["after"]}).status_code == 200
        assert the_host(server) != host
    assert "ended by SIGKILL" in server.stderr
    assert "Traceback" not in server.stderr


def test_all_of_many_requests_are_answered_when_their_host_is_killed(server: Server, client: httpx.Client) -> None:
    texts = [f"request {number} " * 30 for number in range(20)]
    host = the_host(server)
    host.suspend()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(client.post, "/api/embed", json={"texts": [text] * 10}) for text in texts]
        wait_for(lambda: at_work(client) == len(texts))
        host.kill()
        answered = [answer.result(50) for answer in answers]

    assert [answer.status_code for answer in answered] == [200] * 20
    expected = client.post("/api/embed", json={"texts": texts}).json()["embeddings"]
    got = [answer.json()["embeddings"][9] for answer in answered]
    assert cosines(got, expected).min() > 0.9999
    assert len(server.hosts()) == 1


def killed_successor(server: Server, *predecessors: psutil.Process) -> psutil.Process:
    """Kill the next host as soon as it is there, and return it."""
    wait_for(lambda: [host for host in server.hosts() if host not in predecessors], 20)
    (successor,) = [host for host in server.hosts() if host not in predecessors]
    successor.kill()
    return successor


def test_a_host_killed_in_its_work_and_its_successor_while_it_loads_cost_no_answer(
    server: Server, client: httpx.Client
) -> None:
    host = the_host(server)
    host.suspend()  # or a fast machine has answered before the kill, and nobody asks for a successor
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.post, "/api/embed", json={"texts": LONG})
        wait_for(lambda: at_work(client) == 1)
        host.kill()
        killed_successor(server, host)

        assert answer.result(50).status_code == 200
        assert_answered(answer.result())

    assert client.get("/ready").status_code == 200
    assert client.get("/api/models/minilm").json()["state"] == "ready"


def test_the_kernel_is_to_take_a_host_before_the_service(server: Server, client: httpx.Client) -> None:
    assert_goes_first_when_memory_ends(the_host(server).pid)
    assert Path(f"/proc/{server.process.pid}/oom_score_adj").read_text().strip() != "500"


def test_hosts_killed_whenever_they_load_are_an_error_that_passes(tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.client() as client, ThreadPoolExecutor() as pool:
        answers = [pool.submit(client.post, "/api/embed", json={"texts": ["a"]}) for _ in range(3)]
        first = killed_successor(server)
        killed_successor(server, first)  # each load is given a second try

        for answer in answers:
            assert answer.result(40).status_code == 503
            assert_answered(answer.result())
        time.sleep(int(answer.result().headers["Retry-After"]))
        assert client.post("/api/embed", json={"texts": ["after"]}).status_code == 200
        assert client.get("/api/models/minilm").json()["state"] == "ready"
        assert "Traceback" not in server.stderr


def works(client: httpx.Client) -> bool:
    """Whether it answers; while the model loads, which takes longer than a request may, that is 504."""
    answer = client.post("/api/embed", json={"texts": ["a"]})
    assert_answered(answer)
    return answer.status_code == 200


def test_a_host_that_hangs_is_given_up_and_replaced(tmp_path: Path) -> None:
    config = "resources: {request_timeout_seconds: 3}\nsecurity: {allow_localhost: true}\n"

    with Server(tmp_path, config=config) as server, server.client() as client, ThreadPoolExecutor() as pool:
        wait_for(lambda: works(client), 30)
        host = the_host(server)
        os.kill(host.pid, signal.SIGSTOP)
        try:
            answers = [pool.submit(client.post, "/api/embed", json={"texts": ["a"]}) for _ in range(5)]
            for answer in answers:
                assert answer.result(20).status_code in {500, 504}
                assert_answered(answer.result())
            assert client.get("/health").status_code == 200
            wait_for(lambda: not host.is_running() or host.status() == psutil.STATUS_ZOMBIE)
        finally:
            if host.is_running():
                host.kill()

        wait_for(lambda: works(client), 30)
        assert "has not answered for 3 s" in server.stderr
        assert "Traceback" not in server.stderr
