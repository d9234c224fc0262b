"""Clients as they are: gone before their answer, slow, too large, broken, and many at once."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from support.reference import cosines
from support.server import Server, wait_for

MEGABYTE = 1024 * 1024
LONG = ["some words to read here " * 50] * 600
"""Half a minute of work and more."""

NEVER_A_HANG = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        with server.client() as client:
            assert client.post("/api/embed", json={"texts": ["warm up"]}).status_code == 200
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=NEVER_A_HANG)


def head(body_length: int | None, **headers: str) -> bytes:
    """The head of an embedding request; chunked where the length is not known."""
    length = {"Transfer-Encoding": "chunked"} if body_length is None else {"Content-Length": str(body_length)}
    fields = {"Host": "localhost", "Content-Type": "application/json", **length, **headers}
    return b"POST /api/embed HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode() + b"\r\n"


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        assert chunk, f"the connection ended after {received!r}"
        received += chunk
    top, _, body = received.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers["content-length"]):
        chunk = connection.recv(65536)
        assert chunk, "the answer was cut short"
        body += chunk
    return int(status.split()[1]), headers, body


def embed_line(server: Server, request_id: str) -> str:
    """The access log's line of a request, once there is one."""
    found: list[str] = []

    def look() -> list[str]:
        found[:] = [line for line in server.stdout.splitlines() if f" | {request_id} | " in line]
        return found

    wait_for(look)
    (line,) = found
    return line


def test_the_work_of_a_client_that_hangs_up_is_dropped(server: Server, client: httpx.Client) -> None:
    body = json.dumps({"texts": LONG}).encode()
    (host,) = server.hosts()
    for number in range(3):
        with connect(server) as connection:
            connection.sendall(head(len(body), **{"X-Request-ID": f"gone-{number}"}) + body)
            wait_for(lambda: host.cpu_percent(0.05) > 30)
        assert " | 499 | " in embed_line(server, f"gone-{number}")

    started = time.monotonic()
    assert client.post("/api/embed", json={"texts": ["after them"]}).status_code == 200

    assert time.monotonic() - started < NEVER_A_HANG
    assert server.hosts() == [host]
    wait_for(lambda: host.cpu_percent(0.2) < 30)
    assert "Traceback" not in server.stderr


def test_a_client_that_hangs_up_while_it_sends_is_forgotten(server: Server, client: httpx.Client) -> None:
    with connect(server) as connection:
        connection.sendall(head(1000, **{"X-Request-ID": "half"}) + b'{"texts": [')

    assert " | 499 | " in embed_line(server, "half")
    assert client.get("/health").status_code == 200
    assert "Traceback" not in server.stderr


def test_a_client_that_resets_its_connection_is_forgotten(server: Server, client: httpx.Client) -> None:
    body = json.dumps({"texts": LONG}).encode()
    (host,) = server.hosts()
    connection = connect(server)
    connection.sendall(head(len(body), **{"X-Request-ID": "reset"}) + body)
    wait_for(lambda: host.cpu_percent(0.05) > 30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()

    assert " | 499 | " in embed_line(server, "reset")
    assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
    assert "Traceback" not in server.stderr


def test_a_client_that_sends_byte_by_byte_is_served_and_blocks_nobody(server: Server, client: httpx.Client) -> None:
    body = b'{"texts": ["slowly"]}'
    with connect(server) as connection:
        for byte in head(len(body)) + body[:-1]:
            connection.sendall(bytes([byte]))
        assert client.post("/api/embed", json={"texts": ["meanwhile"]}).status_code == 200
        connection.sendall(body[-1:])

        status, _, answer = answer_on(connection)

    assert status == 200
    ours = json.loads(answer)["embeddings"]
    assert cosines(ours, client.post("/api/embed", json={"texts": ["slowly"]}).json()["embeddings"])[0] > 0.9999


def test_a_client_that_does_not_read_its_answer_blocks_nobody(server: Server, client: httpx.Client) -> None:
    body = json.dumps({"texts": ["short"] * 2000}).encode()  # the answer is 16 MB
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(NEVER_A_HANG)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head(len(body)) + body)
        assert connection.recv(10)
        for _ in range(5):
            assert client.post("/api/embed", json={"texts": ["meanwhile"]}).status_code == 200


@pytest.mark.parametrize("length", ["announced", "chunked"])
@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(None, 413, "PAYLOAD_TOO_LARGE"), ("wrong", 401, "UNAUTHORIZED")],
    ids=["too large", "wrong key"],
)
@pytest.mark.parametrize("client_does", ["reads", "sends on"])
def test_a_body_that_is_refused_need_not_be_sent_whole_and_is_not_kept(
    server: Server, client: httpx.Client, length: str, key: str | None, status: int, code: str, client_does: str
) -> None:
    """A client that looks is answered early; one that sends all of it, as many do, is answered as well."""
    chunked, polite = length == "chunked", client_does == "reads"
    size, piece = 200 * MEGABYTE, b"x" * MEGABYTE
    process = psutil.Process(server.process.pid)
    before = peak = process.memory_info().rss
    sent = 0
    with connect(server) as connection:
        connection.sendall(head(None if chunked else size, **{"Authorization": f"Bearer {key}"} if key else {}))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < size and not (polite and select.select([connection], [], [], 0)[0]):
                connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n" if chunked else piece)
                sent += len(piece)
                peak = max(peak, process.memory_info().rss)
        answered, headers, body = answer_on(connection)

    error = json.loads(body)["error"]
    assert answered == status
    assert error["code"] == code
    assert headers["x-request-id"] == error["request_id"]
    # Of a body whose length is not known, as much must be read as is allowed.
    read = 64 if chunked and status == 413 else 0
    assert not polite or sent < (read + 20) * MEGABYTE
    assert peak - before < (3 * read + 20) * MEGABYTE
    assert client.get("/health").status_code == 200


def test_a_client_that_asks_first_is_spared_sending_a_body_that_is_too_large(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head(200 * MEGABYTE, Expect="100-continue"))

        assert answer_on(connection)[0] == 413


def test_a_large_request_sent_with_an_ordinary_client_is_answered_413(client: httpx.Client) -> None:
    for _ in range(3):
        assert client.post("/api/embed", json={"texts": ["x" * (65 * MEGABYTE)]}).status_code == 413
        assert client.post("/api/embed", json={"texts": ["and on"]}).status_code == 200


GARBAGE = {
    "no HTTP at all": b"\x00\x01\x02\x03\xff\xfe" * 100,
    "TLS": bytes.fromhex("16030100f0010000ec0303") + b"\x55" * 200,
    "no version": b"GET /health\r\n\r\n",
    "lengths that differ": head(5, **{"content-length": "6"}),
    "negative length": b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "length that is no number": b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: five\r\n\r\n",
    "length and chunks": head(5, **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
    "broken chunk": head(None) + b"zz\r\nabc\r\n",
    "header of a megabyte": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * MEGABYTE + b"\r\n\r\n",
    "header with a null byte": b"GET /health HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
    "not UTF-8 in the path": b"GET /api/models/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "escapes in the path": b"GET /api/models/%ff%fe%00%0d%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "not UTF-8 in a header": b"GET /api/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "web socket": b"GET /api/embed HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "absolute address": b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown method": b"BREW /api/embed HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /api/models HTTP/1.1\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_hurts_nobody(server: Server, client: httpx.Client, garbage: bytes) -> None:
    with connect(server) as connection, contextlib.suppress(OSError):  # the server may hang up at any moment
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        assert b" 500 " not in received.partition(b"\r\n")[0]
    assert client.get("/health").status_code == 200
    assert "Traceback" not in server.stderr


def test_a_connection_goes_on_after_an_error(server: Server) -> None:
    good = b'{"texts": ["good"]}'
    with connect(server) as connection:
        for refused, expected in (
            (head(len(good), Authorization="Bearer wrong") + good, 401),
            (head(5, **{"Content-Type": "text/plain"}) + b"hello", 415),
            (head(9) + b"not json!", 400),
            (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
            (b"GET /api/embed HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ):
            connection.sendall(refused)
            assert answer_on(connection)[0] == expected
            connection.sendall(head(len(good)) + good)
            assert answer_on(connection)[0] == 200


def test_requests_sent_without_waiting_are_answered_in_order(server: Server) -> None:
    requests = [json.dumps({"texts": ["word"] * number}).encode() for number in (3, 1, 2)]
    with connect(server) as connection:
        connection.sendall(b"".join(head(len(body)) + body for body in requests))
        counted = []
        buffered = connection.makefile("rb")
        for _ in requests:
            length = 0
            while (line := buffered.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            counted.append(len(json.loads(buffered.read(length))["embeddings"]))
        buffered.close()

    assert counted == [3, 1, 2]


LOCAL = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("request_line", "host", "status"),
    [
        (b"GET /api/models HTTP/1.1", LOCAL, 200),
        (b"GET /api/models HTTP/1.0", LOCAL, 200),
        (b"GET /api/models HTTP/1.0", b"", 401),
        (b"GET /api/models HTTP/1.1", b"", 400),
        (b"GET /api/models HTTP/1.1", LOCAL + b"Host: evil.example\r\n", 400),
        (b"GET /api/models HTTP/1.0", LOCAL + LOCAL, 400),
        (b"GET /api/models HTTP/1.1", b"Host:\r\n", 401),
        (b"GET /api/models HTTP/1.1", b"Host: evil.example\r\n", 401),
        (b"GET /api/models HTTP/1.1", b"Host: evil.example\r\nX-Forwarded-Host: localhost\r\n", 401),
        (b"GET http://evil.example/api/models HTTP/1.1", LOCAL, 400),
        (b"GET http://localhost/api/models HTTP/1.1", b"Host: evil.example\r\n", 400),
        (b"GET http://localhost/health HTTP/1.1", b"Host: evil.example\r\n", 400),
        (b"OPTIONS * HTTP/1.1", b"Host: evil.example\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1", LOCAL, 400),
    ],
)
def test_neither_the_target_nor_the_host_opens_what_is_closed(
    server: Server, request_line: bytes, host: bytes, status: int
) -> None:
    with connect(server) as connection:
        connection.sendall(request_line + b"\r\n" + host + b"Connection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(received.split()[1]) == status, received


def test_two_hundred_clients_at_once_each_get_their_own_answer(server: Server, client: httpx.Client) -> None:
    texts = [f"Client number {number} asks about {number * 7919 % 1009} things." for number in range(200)]
    expected = client.post("/api/embed", json={"texts": texts}).json()["embeddings"]

    def ask(text: str) -> httpx.Response:
        return httpx.post(
            f"{server.url}/api/embed", json={"texts": [text]}, headers={"X-Request-ID": str(hash(text))[1:]}, timeout=50
        )

    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(ask, texts))

    assert {answer.status_code for answer in answers} == {200}
    got = [answer.json()["embeddings"][0] for answer in answers]
    assert cosines(got, expected).min() > 0.9999
    assert all(
        answer.json()["request_id"] == answer.request.headers["X-Request-ID"] == answer.headers["X-Request-ID"]
        for answer in answers
    )
    assert len(server.hosts()) == 1


def test_endless_headers_of_a_client_without_a_key_cost_no_memory(server: Server) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    line = b"X-Header: " + b"h" * 1000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):  # it is not heard to the end
            for _ in range(20_000):
                connection.sendall(line)
    assert psutil.Process(server.process.pid).memory_info().rss - before < 20_000_000
    with server.client() as client:
        assert client.get("/health").status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    with Server(tmp_path, config="resources: {request_timeout_seconds: 1}\n") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            head = b"POST /api/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b'Content-Length: 100\r\n\r\n{"texts": ')
            answer = b""
            while not answer.endswith(b"}") and (chunk := connection.recv(65536)):  # it may come in parts
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b'"code":"TIMEOUT"' in answer
