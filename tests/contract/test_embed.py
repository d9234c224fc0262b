"""`POST /api/embed` to the letter: what it answers, and what it says to every kind of bad request."""

import asyncio
import math
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from contract.answers import asking, bearer, is_uuid, key_entry, refused, serving
from homelab_ai.settings import Settings
from support.hosts import DIMENSIONS, FakeHosts, vector_of

JSON = {"Content-Type": "application/json"}


# --- what it answers


def test_the_answer_is_that_of_the_specification(client: TestClient) -> None:
    response = client.post("/api/embed", json={"texts": ["text1", "text2"]})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert answer.keys() == {"request_id", "embeddings", "dimensions", "model_used"}
    assert is_uuid(answer["request_id"])
    assert answer["request_id"] == response.headers["X-Request-ID"]
    assert (answer["dimensions"], answer["model_used"]) == (DIMENSIONS, "minilm")
    assert len(answer["embeddings"]) == 2
    for vector, text in zip(answer["embeddings"], ("text1", "text2"), strict=True):
        assert len(vector) == DIMENSIONS
        assert all(math.isclose(got, due, rel_tol=1e-6) for got, due in zip(vector, vector_of(text), strict=True))


def test_vectors_say_which_others_they_belong_with(client: TestClient) -> None:
    response = client.post("/api/embed", json={"texts": ["a"]})
    fingerprint = response.headers["X-Embedding-Fingerprint"]
    assert client.get("/api/models/minilm").json()["fingerprint"] == fingerprint
    again = client.post("/api/embed", json={"texts": ["a"]}, headers={"X-Expect-Fingerprint": fingerprint})
    assert again.json()["embeddings"] == response.json()["embeddings"]
    other = client.post("/api/embed", json={"texts": ["a"]}, headers={"X-Expect-Fingerprint": "another"})
    error = refused(other, 409, "CONFLICT")
    assert error["details"] == {"model_id": "minilm", "expected": "another", "fingerprint": fingerprint}


@pytest.mark.parametrize(
    "name", [None, "minilm", "MiniLM", "sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2", "my-alias"]
)
def test_a_model_may_be_named(settings: Settings, name: str | None) -> None:
    models = settings.models.model_dump()
    models["text_embedding"][0]["aliases"] = ["my-alias"]
    with serving(settings, models=models) as client:
        response = client.post("/api/embed", json={"texts": ["a"], "model": name})
    assert (response.status_code, response.json()["model_used"]) == (200, "minilm")


def test_cut_texts_are_told_only_when_there_are_some(client: TestClient) -> None:
    whole = client.post("/api/embed", json={"texts": ["a" * 1000]}).json()
    assert "truncated" not in whole
    cut = client.post("/api/embed", json={"texts": ["a", "a" * 1001, "b", "c" * 2000]}).json()
    assert cut.keys() == {"request_id", "embeddings", "dimensions", "model_used", "truncated"}
    assert cut["truncated"] == [1, 3]


ODD = ["", " ", "\0", "a\0b", "\n\r\t", "é", "e\u0301", "日本語", "😀👨\u200d👩\u200d👧"]
ODD += ["\u202e", "\ufeff", "\uffff", "\U0010ffff", '"\\', "</script>"]


def test_any_text_is_a_text(client: TestClient, hosts: FakeHosts) -> None:
    response = client.post("/api/embed", json={"texts": ODD})
    assert response.status_code == 200
    assert hosts.started[0].runs == [ODD]
    assert len({str(vector) for vector in response.json()["embeddings"]}) == len(ODD)


def test_a_surrogate_pair_written_as_escapes_is_one_character(client: TestClient, hosts: FakeHosts) -> None:
    assert client.post("/api/embed", content=rb'{"texts":["\ud83d\ude00"]}', headers=JSON).status_code == 200
    assert hosts.started[0].runs == [["😀"]]


def test_as_many_texts_as_one_request_may_hold(client: TestClient) -> None:
    texts = [f"text {n}" for n in range(4096)]
    answer = client.post("/api/embed", json={"texts": texts}).json()
    assert len(answer["embeddings"]) == 4096
    assert answer["embeddings"][4095] == client.post("/api/embed", json={"texts": texts[-1:]}).json()["embeddings"][0]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json ; x=y",
        "application/vnd.api+json",
    ],
)
def test_every_way_to_announce_json_is_read(client: TestClient, content_type: str) -> None:
    response = client.post("/api/embed", content=b'{"texts": ["a"]}', headers={"Content-Type": content_type})
    assert response.status_code == 200


# --- what is wrong with the body

BAD: dict[str, tuple[bytes, str, str]] = {
    "no texts": (b"{}", "texts", "is required"),
    "model only": (b'{"model": "minilm"}', "texts", "is required"),
    "empty list": (b'{"texts": []}', "texts", "at least one text"),
    "null": (b'{"texts": null}', "texts", "got null"),
    "a string": (b'{"texts": "one text"}', "texts", '["one text"], got a string'),
    "a number": (b'{"texts": 1}', "texts", "got a number"),
    "a boolean": (b'{"texts": true}', "texts", "got a boolean"),
    "an object": (b'{"texts": {"0": "a"}}', "texts", "got an object"),
    "a number in the list": (b'{"texts": ["a", 1]}', "texts[1]", "expected a string, got a number"),
    "a fraction in the list": (b'{"texts": [1.5]}', "texts[0]", "expected a string, got a number"),
    "null in the list": (b'{"texts": ["a", "b", null]}', "texts[2]", "expected a string, got null"),
    "a boolean in the list": (b'{"texts": [false]}', "texts[0]", "expected a string, got a boolean"),
    "a list in the list": (b'{"texts": [["a"]]}', "texts[0]", "expected a string, got a list"),
    "an object in the list": (b'{"texts": [{"text": "a"}]}', "texts[0]", "expected a string, got an object"),
    "many": (orjson.dumps({"texts": [1] * 3000}), "texts[0]", "expected a string, got a number"),
    "model as a number": (b'{"texts": ["a"], "model": 1}', "model", "expected a string, got a number"),
    "model as a list": (b'{"texts": ["a"], "model": ["minilm"]}', "model", "expected a string, got a list"),
    "unknown field": (b'{"texts": ["a"], "input": "a"}', "input", "is not a field of this request"),
    "a field without a name": (b'{"": 1, "texts": ["a"]}', '""', "is not a field of this request"),
    "a model's name without end": (b'{"texts": ["a"], "model": "' + b"m" * 513 + b'"}', "model", "at most 512"),
    "millions of values": (b'{"texts": [' + b"[]," * 1_000_000 + b"[]]}", "body", "holds more than 1,000,000 values"),
    "misspelt": (b'{"text": ["a"]}', "text", "which has: texts, model"),
    "capitals": (b'{"Texts": ["a"]}', "Texts", "which has: texts, model"),
    "list as body": (b'["a"]', "body", "expected a JSON object, got a list"),
    "empty list as body": (b"[]", "body", "expected a JSON object, got a list"),
    "string as body": (b'"a"', "body", "expected a JSON object, got a string"),
    "number as body": (b"0", "body", "expected a JSON object, got a number"),
    "null as body": (b"null", "body", "expected a JSON object, got null"),
    "false as body": (b"false", "body", "expected a JSON object, got a boolean"),
    "empty body": (b"", "body", "is empty"),
    "blank body": (b" \n", "body", "is not valid JSON"),
    "broken": (b'{"texts": ["a"', "body", "is not valid JSON"),
    "trailing comma": (b'{"texts": ["a",]}', "body", "is not valid JSON"),
    "single quotes": (b"{'texts': ['a']}", "body", "is not valid JSON"),
    "two documents": (b'{"texts": ["a"]}{"texts": ["b"]}', "body", "is not valid JSON"),
    "form": (b"texts=a&texts=b", "body", "is not valid JSON"),
    "not a number": (b'{"texts": [NaN]}', "body", "is not valid JSON"),
    "high surrogate alone": (rb'{"texts": ["\ud800"]}', "body", "is not valid JSON"),
    "low surrogate alone": (rb'{"texts": ["\udc00"]}', "body", "is not valid JSON"),
    "surrogate in a name": (rb'{"texts": ["a"], "\ud800": 1}', "body", "is not valid JSON"),
    "not UTF-8": (b'{"texts": ["\xff\xfe"]}', "body", "is not valid JSON"),
    "encoded surrogate": (b'{"texts": ["\xed\xa0\x80"]}', "body", "is not valid JSON"),
    "UTF-16": ('{"texts": ["a"]}'.encode("utf-16"), "body", "is not valid JSON"),
    "compressed": (b"\x1f\x8b\x08\x00", "body", "is not valid JSON"),
    "raw control character": (b'{"texts": ["a\nb"]}', "body", "is not valid JSON"),
    "deep lists": (b"[" * 10_000, "body", "is not valid JSON"),
    "deep lists in place": (b'{"texts": ' + b"[" * 10_000, "body", "is not valid JSON"),
    "deep but complete": (b'{"texts": [' + b"[" * 900 + b"]" * 901 + b"}", "texts[0]", "got a list"),
    "deep objects": (b'{"a":' * 10_000, "body", "is not valid JSON"),
    "a number without end": (b'{"texts": [' + b"9" * 100_000 + b"]}", "body", "is not valid JSON"),
    "a name without end": (b'{"texts": ["a"], "' + b"k" * 100_000 + b'": 1}', "k" * 100, "is not a field"),
}


def test_a_byte_order_mark_before_the_body_is_no_fault(client: TestClient) -> None:
    answer = client.post("/api/embed", content=b'\xef\xbb\xbf{"texts": ["a"]}', headers=JSON)
    assert answer.status_code == 200


@pytest.mark.parametrize(("body", "field", "problem"), BAD.values(), ids=BAD)
def test_a_bad_body_is_answered_with_the_field_and_what_was_expected(
    client: TestClient, hosts: FakeHosts, body: bytes, field: str, problem: str
) -> None:
    error = refused(client.post("/api/embed", content=body, headers=JSON), 400, "INVALID_REQUEST")
    assert error["message"].startswith(f"{field}: ")
    assert problem in error["message"]
    shown = error["details"]["errors"]
    assert 1 <= len(shown) <= 10
    assert all(entry.keys() == {"field", "message"} for entry in shown)
    assert shown[0]["field"] == field
    assert len(error["message"]) < 400
    assert hosts.started == []


WASTEFUL = {
    "wrong items": orjson.dumps({"texts": [1] * 50_000}),
    "unknown fields": orjson.dumps({"texts": ["a"], **{str(number): 1 for number in range(50_000)}}),
}


@pytest.mark.parametrize("body", WASTEFUL.values(), ids=WASTEFUL)
def test_a_body_full_of_faults_costs_little_more_than_reading_it(client: TestClient, body: bytes) -> None:
    tracemalloc.start()
    try:
        refused(client.post("/api/embed", content=body, headers=JSON), 400, "INVALID_REQUEST")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000  # reading it as JSON takes half of that


def test_too_many_texts_are_refused_with_the_limit(client: TestClient, hosts: FakeHosts) -> None:
    error = refused(client.post("/api/embed", json={"texts": ["a"] * 10_000}), 400, "INVALID_REQUEST")
    assert error["message"].startswith("texts: 10000 texts are more than the 4096")
    assert hosts.started == []


# --- what is wrong with the type of the body


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/jsonx",
        "json",
        "*/*",
        "text/plain; application/json",
        "application/json, text/plain",
        "text/x+json",
        "+json",
        "a/b/c+json",
        "x" * 5000,
        "\xff",
    ],
)
def test_only_json_is_read(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {b"Content-Type": content_type.encode("latin-1")}
    response = client.post("/api/embed", content=b'{"texts": ["a"]}', headers=headers)
    error = refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert "Content-Type: application/json" in error["message"]
    assert len(error["message"]) < 300


# --- what is wrong with its size

SMALL = {"max_body_mb": 1000 / 1024 / 1024, "max_texts": 4096, "max_images": 64, "max_image_megapixels": 64}


def body_of(size: int) -> bytes:
    return b'{"texts": ["' + b"a" * (size - 15) + b'"]}'


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(settings: Settings) -> None:
    with serving(settings, limits=SMALL) as client:
        assert len(body_of(1000)) == 1000
        assert client.post("/api/embed", content=body_of(1000), headers=JSON).status_code == 200
        response = client.post("/api/embed", content=body_of(1001), headers=JSON)
    error = refused(response, 413, "PAYLOAD_TOO_LARGE")
    assert error["details"] == {"max_bytes": 1000}
    assert "limits.max_body_mb" in error["message"]


def test_a_body_of_unknown_size_is_counted(settings: Settings) -> None:
    with serving(settings, limits=SMALL) as client:
        fits = client.post("/api/embed", content=iter([body_of(600)]), headers=JSON)
        large = client.post("/api/embed", content=iter([body_of(2000)]), headers=JSON)
    assert "Content-Length" not in large.request.headers
    assert fits.status_code == 200
    refused(large, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("announced", [b"1001", b"99999999999999999999", b"9" * 5000])
def test_a_body_announced_too_large_is_refused_before_it_is_read(settings: Settings, announced: bytes) -> None:
    with serving(settings, limits=SMALL) as client:
        status, received = stream(client, [b"x"], [(b"content-length", announced)])
    assert (status, received) == (413, 0)


@pytest.mark.parametrize("announced", [[], [(b"content-length", b"10")], [(b"content-length", b"-5")]])
def test_a_body_that_becomes_too_large_is_not_read_on(settings: Settings, announced: list[tuple[bytes, bytes]]) -> None:
    with serving(settings, limits=SMALL) as client:
        status, received = stream(client, [b" " * 400] * 100, announced)
    assert (status, received) == (413, 3)


def stream(client: TestClient, chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Send a body in chunks; return the status of the answer and how many chunks were taken."""
    left = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    sent = call(client, receive, headers)
    return sent[0]["status"], len(chunks) - len(left)


def call(
    client: TestClient, receive: Callable[[], Awaitable[Message]], headers: list[tuple[bytes, bytes]]
) -> list[Message]:
    """Call the route as a server does; return what it sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/embed",
        "raw_path": b"/api/embed",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
        "state": client.app_state.copy(),
    }
    assert client.portal
    client.portal.call(client.app, scope, receive, send)
    return sent


def test_a_client_that_hangs_up_is_not_waited_for_and_harms_nobody(client: TestClient, hosts: FakeHosts) -> None:
    release = asyncio.Event()

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        while not any(host.runs for host in hosts.started):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    body = [b'{"texts": ["a"]}']
    hosts.prepare = lambda host: setattr(host, "busy", release)
    assert call(client, receive, []) == []
    assert client.portal
    client.portal.call(release.set)  # a run that has begun is finished, although nobody waits for it
    assert client.post("/api/embed", json={"texts": ["b"]}).status_code == 200
    assert len(hosts.started) == 1


# --- what is wrong with the model


def test_an_unknown_model_is_answered_with_those_that_there_are(client: TestClient) -> None:
    for name in ("nonexistent-model", "", "minilm ", "../minilm", "\0", "\n|x"):
        error = refused(client.post("/api/embed", json={"texts": ["a"], "model": name}), 404, "MODEL_NOT_FOUND")
        assert error["details"] == {"model_id": name, "available_models": ["minilm"]}
        assert error["message"].isprintable()


def test_a_disabled_model_is_told_from_an_unknown_one(client: TestClient, hosts: FakeHosts) -> None:
    response = client.post("/api/embed", json={"texts": ["a"], "model": "mpnet"})
    error = refused(response, 409, "MODEL_NOT_LOADED")
    assert error["details"] == {"model_id": "mpnet", "available_models": ["minilm"]}
    assert hosts.started == []


def test_a_model_that_describes_images_is_a_wrong_field(client: TestClient) -> None:
    for name in ("blip-base", "llava", "Salesforce/blip-image-captioning-base"):
        response = client.post("/api/embed", json={"texts": ["a"], "model": name})
        error = refused(response, 400, "INVALID_REQUEST")
        assert error["message"].startswith("model: ")
        assert "minilm" in error["message"]


def test_without_any_enabled_model_the_answer_says_so(settings: Settings) -> None:
    models = {"text_embedding": [{"id": "off", "hf_model": "o/off", "enabled": False}]}
    with serving(settings, models=models) as client:
        error = refused(client.post("/api/embed", json={"texts": ["a"]}), 404, "MODEL_NOT_FOUND")
    assert error["message"] == "No enabled model embeds text"
    assert error["details"] == {"model_id": None, "available_models": []}


def test_a_key_may_be_limited_to_some_models(settings: Settings) -> None:
    keys = [key_entry("all", "k1", "embed"), key_entry("some", "k2", "embed", models=["mpnet"])]
    with serving(settings, security={"api_keys": keys}) as client:
        assert client.post("/api/embed", json={"texts": ["a"]}, headers=bearer("k1")).status_code == 200
        for name in (None, "minilm", "MINILM", "all-MiniLM-L6-v2"):
            body = {"texts": ["a"], "model": name}
            error = refused(client.post("/api/embed", json=body, headers=bearer("k2")), 403, "FORBIDDEN")
            assert error["details"] == {"model_id": "minilm"}


def test_too_many_requests_at_once_are_told_when_to_come_back(settings: Settings, hosts: FakeHosts) -> None:
    release = asyncio.Event()
    hosts.prepare = lambda host: setattr(host, "busy", release)
    resources = {"max_concurrent_requests": 1, "max_queued_requests": 1}
    with serving(settings, hosts, resources=resources) as client, asking(client, release) as (pool, go_on):
        waiting = [pool.submit(client.post, "/api/embed", json={"texts": ["a"]}) for _ in range(2)]
        while client.get("/api/models/minilm").json()["active_requests"] < 2:
            time.sleep(0.005)
        response = client.post("/api/embed", json={"texts": ["a"]})
        refused(response, 503, "RESOURCE_EXHAUSTED")
        assert int(response.headers["Retry-After"]) >= 1
        go_on()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200


def test_who_can_wait_is_let_in_all_the_same(client: TestClient) -> None:
    assert client.post("/api/embed", json={"texts": ["a"]}, headers={"Priority": "u=7"}).status_code == 200
