"""Every error has one shape, and every answer the id of its request."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contract.answers import is_uuid, key_entry, refused, serving
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed, RunFailed
from homelab_ai.settings import Settings
from support.hosts import FakeHost, FakeHosts

EMBED = {"texts": ["a secret text"]}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The service writes its logs to the streams of the test that started it, which end with the test."""
    loggers = [logging.getLogger(name) for name in ("homelab_ai", "homelab_ai.access")]
    before = [logger.handlers[:] for logger in loggers]
    yield
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers


# --- what the router refuses


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/api",
        "/api/",
        "/api/embed/",
        "//api/embed",
        "/API/embed",
        "/docs/",
        "/docs/assets/nope.js",
        "/docs/assets/",
        "/docs/assets/..%2f..%2f..%2fetc/passwd",
        "/docs/assets/%00",
        "/admin/nope.js",
        "/admin/..%2froutes.py",
        "/admin/%2e%2e/routes.py",
        "/admin//etc/passwd",
        "/redoc",
        "/nope%0a",
        "/%ff%fe",
        "/%22%3Cscript%3E",
        "/a%7cb",
        "/" + "x" * 5000,
    ],
)
def test_404_where_nothing_is_served(client: TestClient, path: str) -> None:
    error = refused(client.get(f"http://localhost{path}"), 404, "NOT_FOUND")
    assert error["message"].endswith("; /docs lists what is")
    assert error["details"] == {}
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/embed", "POST"),
        ("PUT", "/api/embed", "POST"),
        ("OPTIONS", "/api/embed", "POST"),
        ("DELETE", "/api/models", "GET, POST"),
        ("PUT", "/api/models/minilm", "DELETE, GET, PATCH"),
        ("POST", "/docs", "GET"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/admin", "GET, HEAD"),
        ("DELETE", "/admin/index.html", "GET, HEAD"),
        ("POST", "/docs/assets/swagger-ui.css", "GET, HEAD"),
        ("TRACE", "/api/models", "GET, POST"),
        ("BREW", "/api/models", "GET, POST"),
    ],
)
def test_405_where_the_method_is_not_taken(client: TestClient, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    error = refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == error["details"]["allow"] == allow
    assert method in error["message"]


# --- who may not enter


def test_401_brings_the_challenge(settings: Settings) -> None:
    with serving(settings, security={"api_keys": [key_entry("app", "k1", "read")]}) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic k1"}):
            response = client.get("/api/models", headers=headers)
            assert refused(response, 401, "UNAUTHORIZED")["details"] == {}
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="homelab-ai"'


def test_403_names_the_scope_that_lacks(settings: Settings) -> None:
    with serving(settings, security={"api_keys": [key_entry("app", "k1", "read")]}) as client:
        response = client.post("/api/embed", json=EMBED, headers={"Authorization": "Bearer k1"})
    assert refused(response, 403, "FORBIDDEN")["details"] == {"scope": "embed"}


def test_403_is_the_answer_to_a_web_page_of_another_site(client: TestClient) -> None:
    for origin in ("https://evil.example", "null", "http://[", "http://]"):
        refused(client.post("/api/embed", json=EMBED, headers={"Origin": origin}), 403, "FORBIDDEN")


def test_an_error_to_a_head_request_has_no_body(client: TestClient) -> None:
    response = client.head("/nope")
    assert (response.status_code, response.content) == (404, b"")
    assert is_uuid(response.headers["X-Request-ID"])


# --- what goes wrong inside


def test_500_of_an_unexpected_error_is_logged_and_not_shown(
    settings: Settings, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(host: FakeHost) -> None:
        host.on_run = lambda texts: ZeroDivisionError(f"at {Path(__file__)} with {texts}")

    hosts.prepare = fail
    with serving(settings, hosts) as client:
        response = client.post("/api/embed", json=EMBED, headers={"X-Request-ID": "crash-1"})
        error = refused(response, 500, "INTERNAL_ERROR")
        assert client.get("/health").status_code == 200
    assert error["details"] == {}
    for inside in ("ZeroDivision", "secret", "File", __file__):
        assert inside not in response.text
    out, err = capsys.readouterr()
    assert "[crash-1] unexpected error\n    Traceback (most recent call last):" in err
    assert "ZeroDivisionError" in err
    assert "secret" not in err
    assert " | crash-1 | 127.0.0.1 | /api/embed | 500 | " in out
    assert len(out.splitlines()) == 2


def test_500_of_a_start_that_goes_wrong_unexpectedly(settings: Settings, hosts: FakeHosts) -> None:
    hosts.on_start = lambda plan: KeyError("a fault of our own")
    with serving(settings, hosts) as client:
        response = client.post("/api/embed", json=EMBED)
    refused(response, 500, "INTERNAL_ERROR")
    assert "fault of our own" not in response.text


def test_500_when_the_engine_fails(settings: Settings, hosts: FakeHosts) -> None:
    for failure, places in (
        (RunFailed("RuntimeError", "Traceback: a secret text"), {"texts": [0]}),
        (HostDied("it was ended by SIGKILL"), {}),
    ):

        def fail(host: FakeHost, failure: Exception = failure) -> None:
            host.on_run = lambda texts: failure

        hosts.prepare = fail
        with serving(settings, hosts) as client:
            response = client.post("/api/embed", json=EMBED)
        assert refused(response, 500, "INFERENCE_FAILED")["details"] == {"model_id": "minilm", **places}
        assert "secret" not in response.text


def test_503_when_the_model_cannot_be_loaded(client: TestClient, hosts: FakeHosts) -> None:
    hosts.on_start = lambda plan: HostLoadFailed("it has no weights")
    error = refused(client.post("/api/embed", json=EMBED), 503, "MODEL_LOAD_FAILED")
    assert error["message"] == "Model 'minilm' could not be loaded: it has no weights"
    assert error["details"] == {"model_id": "minilm"}


def test_503_when_the_state_cannot_be_read(settings: Settings, client: TestClient) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    (settings.data_dir / "state.db").unlink()
    response = client.get("/ready")
    refused(response, 503, "RESOURCE_EXHAUSTED")
    assert response.headers["Retry-After"] == "5"
    assert client.get("/health").json() == {"status": "ok"}


def test_504_when_the_answer_takes_too_long(settings: Settings, hosts: FakeHosts) -> None:
    hosts.on_start = lambda plan: TimeoutError()
    with serving(settings, hosts) as client:
        error = refused(client.post("/api/embed", json=EMBED), 504, "TIMEOUT")
    assert error["details"]["model_id"] == "minilm"


# --- the id of a request


@pytest.mark.parametrize(
    "offered",
    ["a", "7", "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11", "trace:01.02_03-Z", "A" * 128],
)
def test_a_well_formed_request_id_is_taken(client: TestClient, offered: str) -> None:
    probe = client.get("/health", headers={"X-Request-ID": offered})
    assert probe.headers.get_list("X-Request-ID") == [offered]
    assert refused(client.get("/nope", headers={"X-Request-ID": offered}), 404, "NOT_FOUND")["request_id"] == offered
    answer = client.post("/api/embed", json=EMBED, headers={"X-Request-ID": offered})
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == offered


@pytest.mark.parametrize(
    "offered",
    [
        b"",
        b" ",
        b"a b",
        b"a|b",
        b"a\nb",
        b"a\r\nSet-Cookie: x=y",
        b"a\n",
        b"-a",
        b".a",
        b"a/b",
        b"<a>",
        b'a"b',
        b"a,b",
        b"a\0",
        "é".encode(),
        b"\xe9",
        "\uff11".encode(),
        b"A" * 129,
        b"A" * 200,
        b"A" * 100_000,
    ],
    ids=repr,
)
def test_a_malformed_request_id_is_replaced(client: TestClient, offered: bytes) -> None:
    response = client.get("/nope", headers={b"X-Request-ID": offered})
    error = refused(response, 404, "NOT_FOUND")
    assert is_uuid(error["request_id"])


def test_each_request_without_an_id_gets_one_of_its_own(client: TestClient) -> None:
    paths = ["/health", "/health", "/nope", "/docs", "/openapi.json"]
    ids = [client.get(path).headers["X-Request-ID"] for path in paths]
    assert all(map(is_uuid, ids))
    assert len(set(ids)) == len(ids)


def test_the_access_line_names_request_client_route_status_and_model(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(settings) as client:
        client.post("/api/embed", json=EMBED, headers={"X-Request-ID": "one"})
        client.get("/api/models/org%2Fname", headers={"X-Request-ID": "two"})
        client.get("/no%0awhere%7c", headers={"X-Request-ID": "three"})
        client.get("/api/models", headers={"X-Request-ID": "four", "X-Forwarded-For": "6.6.6.6"})
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [(*line[1:5], line[6]) for line in lines] == [
        ("one", "127.0.0.1", "/api/embed", "200", "minilm"),
        ("two", "127.0.0.1", "/api/models/{model_id:path}", "404", "-"),
        ("three", "127.0.0.1", "/no?where?", "404", "-"),
        ("four", "127.0.0.1", "/api/models", "401", "-"),
    ]
