"""Requests that are none, or could be taken for two: refused, or understood as the standard says, and answered once."""

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest

from support.exposition import parsed
from support.server import Server

KEY = b"malformed-requests"
CONFIG = f"""
security:
  api_keys: [{{name: test, key_hash: {hashlib.sha256(KEY).hexdigest()}, scopes: [read, admin]}}]
"""
HOST = b"Host: localhost\r\n"
LAST = b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
HIDDEN = b"GET /api/models HTTP/1.1\r\n" + HOST + b"\r\n"
"""What may not be answered without a key, and not at all where it stands within a body."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("malformed"), config=CONFIG, environment={}) as server:
        yield server


def exchange(server: Server, said: bytes) -> bytes:
    """All that is answered until the service hangs up."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
        contextlib.suppress(ConnectionError),
    ):
        with contextlib.suppress(ConnectionError):  # it need not hear all of it
            connection.sendall(said)
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def counted(server: Server) -> dict[tuple[str, ...], float]:
    """How many requests ended with each status, by `/metrics`."""
    with server.client(headers={"Authorization": f"Bearer {KEY.decode()}"}) as client:
        samples = parsed(client.get("/metrics").text)["api_requests_total"]
    return {labels[1:]: value for labels, value in samples.items() if labels[0] == "other"}


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def post(*headers: bytes, body: bytes = b"") -> bytes:
    """A request with a body that nobody reads: it is answered 404."""
    lines = (b"POST /nope HTTP/1.1", b"Host: localhost", b"Authorization: Bearer " + KEY, *headers)
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
REFUSED = {
    "length and chunks": post(b"Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    "chunks and length": post(CHUNKED, b"Content-Length: 4", body=b"0\r\n\r\n" + HIDDEN),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 40", body=HIDDEN),
    "two lengths in one": post(b"Content-Length: 0, 40", body=HIDDEN),
    "length with a plus": post(b"Content-Length: +0", body=HIDDEN),
    "length below zero": post(b"Content-Length: -1", body=HIDDEN),
    "length in hexadecimal": post(b"Content-Length: 0x0", body=HIDDEN),
    "length with more": post(b"Content-Length: 0 0", body=HIDDEN),
    "length beyond all numbers": post(b"Content-Length: " + b"9" * 30, body=HIDDEN),
    "another coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
    "no coding": post(b"Transfer-Encoding: identity", body=HIDDEN),
    "two codings": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunks twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    "a coding with a tab before it": post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunks in HTTP/1.0": b"POST /nope HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n" + HIDDEN,
    "space before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
    "space before the name": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n" + HIDDEN,
    "no name": b"GET /health HTTP/1.1\r\n" + HOST + b": x\r\n\r\n" + HIDDEN,
    "no colon": b"GET /health HTTP/1.1\r\n" + HOST + b"x\r\n\r\n" + HIDDEN,
    "bare return": b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n" + HIDDEN,
    "null": b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n" + HIDDEN,
    "null in a name": b"GET /health HTTP/1.1\r\n" + HOST + b"X\0: a\r\n\r\n" + HIDDEN,
    "chunk below zero": post(CHUNKED, body=b"-1\r\n" + HIDDEN),
    "chunk with a plus": post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk in C": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk beyond all numbers": post(CHUNKED, body=b"F" * 21 + b"\r\n" + HIDDEN),
    "chunk without a size": post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk that is longer than it says": post(CHUNKED, body=b"4\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk with a bare newline": post(CHUNKED, body=b"5\nhello\n0\n\n" + HIDDEN),
    "endless size of a chunk": post(CHUNKED, body=b"5;" + b"x" * 100_000),
    "endless trailer": post(CHUNKED, body=b"0\r\n" + b"X: y\r\n" * 20_000),
    "absolute address": b"GET http://localhost/health HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "absolute address of another": b"HEAD http://nas.lan/health HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "tunnel": b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /health\r\n\r\n" + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "HTTP/1.2": b"GET /health HTTP/1.2\r\n" + HOST + b"\r\n" + HIDDEN,
    "http in small letters": b"GET /health http/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "two spaces": b"GET  /health HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "TLS": bytes.fromhex("16030100f0010000ec0303") + b"\x55" * 200,
    "no host": b"GET /health HTTP/1.1\r\n\r\n" + HIDDEN,
    "two hosts": b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n" + HIDDEN,
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED)
def test_refused(server: Server, said: bytes) -> None:
    answer = exchange(server, said)
    status = 431 if said.startswith(b"POST") and len(said) > 40_000 else 400
    assert statuses(answer) == [status], answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/json" in head.lower()
    if said.startswith(b"HEAD"):
        assert body == b""
    else:
        error = json.loads(body)["error"]
        assert error["code"] == ("INVALID_REQUEST" if status == 400 else "HEADERS_TOO_LARGE")
        assert f"x-request-id: {error['request_id']}" in head.decode().lower()


UNDERSTOOD = {
    "one after the other": (LAST.replace(b"Connection: close\r\n", b"") * 2 + LAST, [200, 200, 200]),
    "the same length twice": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello") + LAST, [404, 200]),
    "chunks": (post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n") + LAST, [404, 200]),
    "chunks in capitals": (post(b"TRANSFER-ENCODING: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n") + LAST, [404, 200]),
    "chunks with extensions": (post(CHUNKED, body=b'5;a="b\r\nhello\r\n0;c\r\n\r\n') + LAST, [404, 200]),
    "chunks with a trailer": (post(CHUNKED, body=b"0\r\nContent-Length: 999\r\n\r\n") + LAST, [404, 200]),
    "a folded header": (post(b"Transfer-Encoding:\r\n\tchunked", body=b"0\r\n\r\n") + LAST, [404, 200]),
    "bare newlines": (LAST.replace(b"\r\n", b"\n"), [200]),
    "a request within a body": (post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN) + LAST, [404, 200]),
    "a request within a chunk": (
        post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)) + LAST,
        [404, 200],
    ),
    "GET with a body": (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN) + LAST,
        [200, 200],
    ),
    "one without a key after one with": (post(b"Content-Length: 0") + HIDDEN + LAST, [404, 401, 200]),
    "nonsense after a request": (post(b"Content-Length: 0") + b"nonsense\r\n\r\n" + HIDDEN, [404, 400]),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n" + HIDDEN, [200]),
    "web socket": (
        b"GET /api/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + LAST,
        [401, 200],
    ),
    "HTTP/2 by upgrade": (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n" + LAST,
        [200, 200],
    ),
    "a path with dots": (LAST.replace(b"/health", b"/health/../api/models"), [401]),
    "a path with an escaped slash": (LAST.replace(b"/health", b"/health%2f..%2fapi%2fmodels"), [401]),
    "two slashes": (LAST.replace(b"/health", b"//health"), [401]),
}


@pytest.mark.parametrize(("said", "expected"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_understood(server: Server, said: bytes, expected: list[int]) -> None:
    answer = exchange(server, said)
    assert statuses(answer) == expected, answer
    assert b"available" not in answer  # the state of a model: nobody has shown the key that reads it


def get(*headers: bytes, target: bytes = b"/health") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % target + b"".join(headers) + b"\r\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (get(b"X: " + b"x" * 30_000 + b"\r\n"), 200),
        (get(b"X: " + b"x" * 33_000 + b"\r\n"), 431),
        (get(b"X: " + b"x" * 5_000_000 + b"\r\n"), 431),
        (get(*[b"X: y\r\n"] * 98), 200),
        (get(*[b"X: y\r\n"] * 99), 431),
        (get(*[b"X: y\r\n"] * 10_000), 431),
        (get(target=b"/health?" + b"x" * 30_000), 200),
        (get(target=b"/health?" + b"x" * 33_000), 431),
        (get(target=b"/health?" + b"x" * 5_000_000), 431),
        (get(b"X" * 40_000 + b": x\r\n"), 431),
    ],
)
def test_a_head_may_be_so_large_and_no_larger(server: Server, said: bytes, expected: int) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    assert statuses(exchange(server, said)) == [expected]
    assert psutil.Process(server.process.pid).memory_info().rss - before < 20_000_000


def test_none_of_it_is_a_fault_of_the_service(server: Server) -> None:
    exchange(server, LAST)
    assert "Traceback" not in server.stderr
    assert "ERROR" not in server.stderr


def test_what_is_no_request_is_counted_too(server: Server) -> None:
    before = counted(server)
    exchange(server, b"nonsense\r\n\r\n")
    exchange(server, b"GET /health HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 101 + b"\r\n")
    after = counted(server)
    assert {
        labels: after[labels] - before.get(labels, 0) for labels in after if after[labels] != before.get(labels)
    } == {
        ("400",): 1,
        ("431",): 1,
    }


def test_a_body_that_is_none_is_answered_under_the_id_of_its_request(server: Server) -> None:
    said = post(b"X-Request-ID: mine-77", CHUNKED, body=b"ZZ\r\n").replace(b"/nope", b"/api/models")
    answer = exchange(server, said)
    assert statuses(answer) == [400]
    assert answer.count(b"mine-77") == 2, "in the header and in the envelope"
    (line,) = [line for line in server.stdout.splitlines() if "mine-77" in line]
    assert line.split(" | ")[3:5] == ["/api/models", "400"]


def test_a_body_in_chunks_of_next_to_nothing_is_cut_off(server: Server) -> None:
    tiny = post(CHUNKED, body=b"1\r\na\r\n" * 2000)
    assert statuses(exchange(server, tiny)) in ([404], [400]), "the head is answered, the rest is not read"
    some = post(CHUNKED, b"Connection: close", body=b"1\r\na\r\n" * 500 + b"0\r\n\r\n")
    assert statuses(exchange(server, some)) == [404]
    large = b"400\r\n" + b"a" * 1024 + b"\r\n"
    many = post(CHUNKED, b"Connection: close", body=large * 2000 + b"0\r\n\r\n")
    assert statuses(exchange(server, many)) == [404]


def test_who_floods_with_such_chunks_keeps_nobody_waiting(server: Server) -> None:
    enough = threading.Event()

    def flood() -> None:
        while not enough.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 5) as connection:
                connection.sendall(b"POST /health HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n\r\n")
                while not enough.is_set():
                    connection.sendall(b"1\r\na\r\n" * 2000)

    stranger = threading.Thread(target=flood)
    stranger.start()
    try:
        with server.client() as client:
            assert [client.get("/health").status_code for _ in range(50)] == [200] * 50
    finally:
        enough.set()
        stranger.join()
