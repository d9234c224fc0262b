"""How the service ends: answers that are under way are given, nothing is left running, and the next start works."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from support.server import Server, wait_for

LONG = [f"{number} some words to read here " * 50 for number in range(250)]
"""Seconds of work, on a fast machine too."""

SLOW_TO_LOAD = """
models: {text_embedding: [{id: slow, hf_model: sentence-transformers/all-MiniLM-L6-v2, backend: torch}]}
"""
"""The import of torch takes seconds."""


def signalled(number: signal.Signals) -> set[int]:
    """What a process may end with that was asked to end by this signal."""
    return {0, -number, 128 + number}


def working(server: Server) -> bool:
    """Whether a host is computing."""
    return any(host.cpu_percent(0.05) > 30 for host in server.hosts())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_long_request_gets_its_whole_answer(tmp_path: Path, number: signal.Signals) -> None:
    with Server(tmp_path) as server, ThreadPoolExecutor() as pool:
        client = server.client()
        assert client.post("/api/embed", json={"texts": ["warm up"]}).status_code == 200
        answer = pool.submit(client.post, "/api/embed", json={"texts": LONG})
        wait_for(lambda: working(server))
        assert not answer.done()
        hosts = server.hosts()

        status = server.stop(number)

        assert answer.result(30).status_code == 200
        assert len(answer.result().json()["embeddings"]) == len(LONG)
        client.close()
        assert status in signalled(number)
        assert not any(host.is_running() for host in hosts)
        assert " | /api/embed | 200 | " in server.stdout.splitlines()[-1]
        assert "Traceback" not in server.stderr
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


def test_a_request_that_waits_for_its_model_is_answered_before_the_end(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ThreadPoolExecutor() as pool, server.client() as client:
        answer = pool.submit(client.post, "/api/embed", json={"texts": ["a"]})
        wait_for(server.hosts)

        assert server.stop() in signalled(signal.SIGTERM)

        assert answer.result(30).status_code == 200
        assert "Traceback" not in server.stderr


def test_a_load_that_nobody_waits_for_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with Server(tmp_path, config=SLOW_TO_LOAD) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(
                b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\n"
                b'Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{"texts":["a"]}'
            )
            wait_for(server.hosts)
        wait_for(lambda: " | /api/embed | 499 | " in server.stdout)

        assert server.stop(seconds=10) in signalled(signal.SIGTERM)

        assert not server.hosts()
        assert "Traceback" not in server.stderr


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ThreadPoolExecutor() as pool, server.client() as client:
        answer = pool.submit(client.post, "/api/embed", json={"texts": LONG * 4})
        wait_for(server.hosts)
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: "Shutting down" in server.stderr)

        server.stop(signal.SIGINT, seconds=10)

        assert isinstance(answer.exception(10) or httpx.TransportError(""), httpx.TransportError)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose service has just been killed in the middle of its work."""
    with Server(tmp_path) as server, ThreadPoolExecutor() as pool, server.client() as client:
        assert client.post("/api/embed", json={"texts": ["warm up"]}).status_code == 200
        answer = pool.submit(client.post, "/api/embed", json={"texts": LONG})
        wait_for(lambda: working(server))
        hosts = server.hosts()

        server.kill()

        _, left = psutil.wait_procs(hosts, timeout=10)
        for host in left:
            host.kill()
        assert hosts
        assert not left, "a model host outlived the service"
        assert isinstance(answer.exception(10), httpx.TransportError)
    return tmp_path


def test_after_kill_9_no_host_is_left_and_the_next_start_works_at_once(folder: Path) -> None:
    assert (folder / "data" / "lock").exists()
    with Server(folder) as server, server.client() as client:
        assert client.get("/ready").status_code == 200
        assert client.get("/api/models").status_code == 200
        assert "first start" not in server.stderr, "what was stored before is lost"
