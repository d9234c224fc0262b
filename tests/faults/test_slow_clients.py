"""Clients that are slow, silent or many: they are let go in time, and nobody else notices them."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from support.server import REPOSITORY, Server, wait_for

HURRIED = """
import sys
from homelab_ai.server import Protocol

Protocol.head_seconds, Protocol.unread_seconds = {head}, {unread}
{start}
"""
SERVE = "from homelab_ai.cli import main; sys.argv[0] = 'homelab-ai'; main()"
UVICORN = f"sys.path.insert(0, {str(REPOSITORY)!r}); from uvicorn import main; main()"
COMMANDS = {"serve": (SERVE, "serve"), "uvicorn": (UVICORN, "main:app")}


def hurried(folder: Path, *, head: float, unread: float = 60, how: str = "serve") -> Server:
    """A service whose limits of time are as short as a test wants them."""
    start, argument = COMMANDS[how]
    return Server(folder, command=("-c", HURRIED.format(head=head, unread=unread, start=start), argument))


def connect(server: Server, said: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(said)
    return connection


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def held(server: Server) -> int:
    """How many connections the service has at the moment."""
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


@pytest.fixture
def many_files() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this machine lets no process have two thousand files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("how", COMMANDS)
@pytest.mark.usefixtures("many_files")
def test_a_thousand_slow_connections_keep_nobody_out_and_are_let_go(tmp_path: Path, how: str) -> None:
    with hurried(tmp_path, head=4, how=how) as server, server.client() as client, contextlib.ExitStack() as stack:
        before = psutil.Process(server.process.pid).memory_info().rss
        slow = [stack.enter_context(connect(server)) for _ in range(1000)]
        times = []
        for letter in b"GET":  # half of them go on to say one byte a turn
            for connection in slow[::2]:
                with contextlib.suppress(OSError):  # it may have been let go already
                    connection.sendall(bytes([letter]))
            started = time.perf_counter()
            with server.client() as another:  # a connection of its own, which has to find its place
                assert another.get("/health").status_code == 200
            assert client.get("/health").status_code == 200
            times.append(time.perf_counter() - started)
        assert min(times) < 1
        assert held(server) <= 514
        assert psutil.Process(server.process.pid).memory_info().rss - before < 30_000_000

        client.close()
        wait_for(lambda: held(server) == 0)
        readable, _, _ = select.select(slow[-10:], [], [], 5)
        assert len(readable) == 10, "they have been told, too"
        with server.client() as afterwards:
            assert afterwards.get("/health").status_code == 200
        assert "Traceback" not in server.stderr


def test_half_a_head_is_answered_when_its_time_is_up(tmp_path: Path) -> None:
    with hurried(tmp_path, head=0.5) as server:
        with connect(server, b"GET /health HTTP/1.1\r\nHost: local") as connection:
            head, _, body = heard(connection).partition(b"\r\n\r\n")
        error = json.loads(body)["error"]
        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"connection: close" in head.lower()
        assert (error["code"], error["details"]) == ("TIMEOUT", {"timeout_seconds": 0.5})
        with connect(server) as connection:
            assert heard(connection) == b""
        wait_for(lambda: f" | {error['request_id']} | 127.0.0.1 | - | 504 | " in server.stdout)
        assert server.stdout.count(" | - | 504 | ") == 1, "who has said nothing has no line"


def test_a_second_head_has_its_time_too(tmp_path: Path) -> None:
    with hurried(tmp_path, head=0.5) as server, connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        connection.sendall(b"l")
        answers = heard(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 504 ") == 1


def test_an_idle_connection_stays_and_a_slow_body_has_its_own_time(tmp_path: Path) -> None:
    with hurried(tmp_path, head=0.3) as server, server.client() as client:
        client.get("/health")
        with connect(server) as connection:
            connection.sendall(
                b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b'Content-Length: 14\r\nConnection: close\r\n\r\n{"texts"'
            )
            time.sleep(1)  # three times as long as a head may take
            connection.sendall(b": [] }")
            assert heard(connection).startswith(b"HTTP/1.1 400 ")
        assert client.get("/health").status_code == 200
        wait_for(lambda: held(server) == 1)


def test_the_rest_of_a_body_that_was_refused_is_not_awaited_for_ever(tmp_path: Path) -> None:
    with hurried(tmp_path, head=0.5) as server, connect(server) as connection:
        connection.sendall(b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")

        def hung_up() -> bool:
            try:
                connection.sendall(b"x")
            except ConnectionError:
                return True
            return False

        wait_for(hung_up)


def test_who_does_not_read_the_answer_is_cut_off(tmp_path: Path) -> None:
    with hurried(tmp_path, head=15, unread=0.5) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8)
        wait_for(lambda: "does not read its answer" in server.stderr)
        wait_for(lambda: held(server) == 0)
        with server.client() as client:
            assert client.get("/health").status_code == 200
        assert "Traceback" not in server.stderr


def test_more_files_may_be_open_than_the_shell_allows(tmp_path: Path) -> None:
    start = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000)); " + SERVE
    with Server(tmp_path, command=("-c", f"import sys; {start}", "serve")) as server:
        if not hasattr(psutil.Process, "rlimit"):
            pytest.skip("only Linux tells the limits of another process")
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (1000, 1000)
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200


FEW = (
    "import sys; from homelab_ai.server import Protocol; Protocol.most_connections = 3; "
    "from homelab_ai.cli import main; main()"
)


def test_full_of_requests_at_work_it_refuses_the_next(tmp_path: Path) -> None:
    with Server(tmp_path, command=("-c", FEW, "serve")) as server:
        head = b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                waiting = stack.enter_context(
                    connect(server, head + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
                )
                assert waiting.recv(100).startswith(b"HTTP/1.1 100 "), "it is at work, and waits for the body"
            with connect(server) as fourth:
                head, _, answer = heard(fourth).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in head
            assert json.loads(answer)["error"]["code"] == "RESOURCE_EXHAUSTED"
        wait_for(lambda: held(server) == 0)
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200


def test_full_of_clients_that_do_not_read_it_answers_the_next(tmp_path: Path) -> None:
    with Server(tmp_path, command=("-c", FEW, "serve")) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            lazy = stack.enter_context(connect(server))
            lazy.sendall(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            assert lazy.recv(10).startswith(b"HTTP/1.1 ")  # and no more

        def answered() -> bool:
            with server.client() as client:
                return client.get("/health").status_code == 200

        wait_for(answered)  # as soon as what they leave unread fills all buffers
        assert "Traceback" not in server.stderr
