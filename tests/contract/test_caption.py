"""`POST /api/caption`: the three ways of sending an image, batches, and what is answered to everything else."""

import asyncio
import base64
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.answers import asking, bearer, is_uuid, key_entry, refused, serving
from homelab_ai.captioning import decoder
from homelab_ai.models.hosts.host import RunFailed
from homelab_ai.settings import Settings
from support.hosts import FakeHosts


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


CAT = b64("image: cat")
BARE = {"model_used": "blip-base"}


def ask(client: TestClient, body: Any) -> Any:
    return client.post("/api/caption", json=body)


def send(client: TestClient, *contents: bytes, **fields: str) -> Any:
    return client.post("/api/caption", files=[("image", ("a.png", content)) for content in contents], data=fields)


def test_one_image_is_answered_as_specified_however_it_is_sent(client: TestClient) -> None:
    answers = [
        send(client, b"image: cat"),
        ask(client, {"image": CAT}),
        ask(client, {"image": f"data:image/png;base64,{CAT}"}),
        ask(client, {"image": f"DATA:image/png;charset=x;base64,{CAT}"}),
        ask(client, {"image": CAT.rstrip("=")}),
        ask(client, {"image": "\n ".join(CAT)}),
        ask(client, {"image": base64.urlsafe_b64encode(b"image: cat").decode(), "model": "blip-base"}),
        client.post("/api/caption", data={"image": CAT}, files={"model": (None, "blip-base")}),
        send(client, b"image: cat", model="Salesforce/blip-image-captioning-base", num_beams="3", max_new_tokens="9"),
    ]
    for response in answers:
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer.keys() == {"request_id", "caption", "model_used", "processing_time_ms"}
        assert (answer["caption"], answer["model_used"]) == ("a picture of cat", "blip-base")
        assert is_uuid(answer["request_id"])
        assert isinstance(answer["processing_time_ms"], int)
        assert answer["processing_time_ms"] >= 0


BATCH: list[tuple[str, dict[str, Any]]] = [
    ("image: cat", {"caption": "a picture of cat"}),
    ("unknown: is no image", {"code": "UNSUPPORTED_MEDIA_TYPE"}),
    ("image: dog", {"caption": "a picture of dog"}),
    ("damaged: breaks off", {"code": "INVALID_REQUEST"}),
    ("too_large: has many pixels", {"code": "PAYLOAD_TOO_LARGE"}),
    ("deadly: ", {"code": "INVALID_REQUEST"}),
    ("strange: ", {"code": "INVALID_REQUEST"}),
    ("", {"code": "INVALID_REQUEST"}),
    ("image: cat", {"caption": "a picture of cat"}),
]


@pytest.mark.parametrize("way", ["form", "json"])
def test_in_a_batch_each_image_has_its_own_caption_or_its_own_error(client: TestClient, way: str) -> None:
    if way == "form":
        response = send(client, *(content.encode() for content, _ in BATCH))
    else:
        response = ask(client, {"batch": [b64(content) for content, _ in BATCH]})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"request_id", "captions", "model_used", "processing_time_ms"}
    field = "image" if way == "form" else "batch"
    for index, (item, (content, expected)) in enumerate(zip(answer["captions"], BATCH, strict=True)):
        assert item["index"] == index
        if "caption" in expected:
            assert item == {"index": index, **expected}
        else:
            assert item.keys() == {"index", "error"}
            assert item["error"].keys() == {"code", "message", "details"}
            assert item["error"]["code"] == expected["code"]
            assert item["error"]["message"].startswith(f"{field}[{index}]: ")
            assert content.partition(": ")[2] in item["error"]["message"]


def test_a_batch_of_one_is_a_batch(client: TestClient) -> None:
    answer = ask(client, {"batch": [CAT]}).json()
    assert answer["captions"] == [{"index": 0, "caption": "a picture of cat"}]


def test_broken_base64_in_a_batch_spoils_no_other(client: TestClient) -> None:
    answer = ask(client, {"batch": ["%%%", CAT, "a", "data:image/png,a", "naïve"]}).json()["captions"]
    assert [item.get("caption") for item in answer] == [None, "a picture of cat", None, None, None]
    assert "is neither base64 nor an address" in answer[0]["error"]["message"]


def test_equal_images_are_looked_at_once(settings: Settings) -> None:
    hosts = FakeHosts()
    with serving(settings, hosts) as client:
        assert len(ask(client, {"batch": [CAT, CAT]}).json()["captions"]) == 2
    (captioner,) = [host for host in hosts.started if host.plan.model_id == "blip-base"]
    assert len([name for run in captioner.runs for name in run]) == 1


def test_a_prompt_reaches_the_model_or_is_refused_by_it(client: TestClient) -> None:
    assert ask(client, {"image": CAT, "prompt": "what?"}).json()["caption"] == "a picture of cat, asked what?"
    error = refused(ask(client, {"image": CAT, "prompt": "refused"}), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == "prompt"
    assert "vision-language model" in error["message"]


WRONG: dict[str, tuple[Any, str, str]] = {
    "nothing": ({}, "image", "is required"),
    "both": ({"image": CAT, "batch": [CAT]}, "batch", "stands beside `image`"),
    "no image": ({"image": None}, "image", "is required"),
    "an empty image": ({"image": ""}, "image", "is empty"),
    "a number": ({"image": 7}, "image", "expected a string"),
    "a list for one": ({"image": [CAT]}, "image", "expected a string"),
    "one for a list": ({"batch": CAT}, "batch", "expected a list"),
    "an empty batch": ({"batch": []}, "batch", "send 1 to 64"),
    "a large batch": ({"batch": [CAT] * 65}, "batch", "send 1 to 64"),
    "null in a batch": ({"batch": [CAT, None]}, "batch[1]", "expected a string"),
    "no base64": ({"image": "not base64!"}, "image", "is neither base64"),
    "no tokens": ({"image": CAT, "max_new_tokens": 0}, "max_new_tokens", "greater than or equal to 1"),
    "a text as number": ({"image": CAT, "max_new_tokens": "5"}, "max_new_tokens", "integer"),
    "many beams": ({"image": CAT, "num_beams": 11}, "num_beams", "less than or equal to 10"),
    "an unknown field": ({"image": CAT, "images": []}, "images", "is not a field"),
    "a long prompt": ({"image": CAT, "prompt": "p" * 4001}, "prompt", "4000"),
    "an embedding model": ({"image": CAT, "model": "minilm"}, "model", "embeds text"),
    "not an object": ([CAT], "body", "expected a JSON object"),
}


@pytest.mark.parametrize(("body", "field", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(client: TestClient, body: Any, field: str, message: str) -> None:
    error = refused(ask(client, body), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == field
    assert message in error["details"]["errors"][0]["message"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("unknown: is no image", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("too_large: has too many pixels", 413, "PAYLOAD_TOO_LARGE"),
        ("damaged: breaks off", 400, "INVALID_REQUEST"),
        ("deadly: ", 400, "INVALID_REQUEST"),
    ],
)
def test_a_single_bad_image_is_the_answer(client: TestClient, content: str, status: int, code: str) -> None:
    error = refused(send(client, content.encode()), status, code)
    assert error["message"].startswith("image: ")
    assert client.get("/api/models/blip-base").json()["loads"] == 0, "no model is loaded for it"


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"files": {"model": (None, "blip-base")}}, "image"),
    "a file elsewhere": ({"files": {"image": ("a", b"image: cat"), "picture": ("b", b"x")}}, "picture"),
    "an unknown field": ({"files": {"image": ("a", b"image: cat"), "modle": (None, "x")}}, "modle"),
    "a field twice": (
        {"files": [("image", ("a", b"image: cat")), ("model", (None, "x")), ("model", (None, "y"))]},
        "model",
    ),
    "no number": ({"files": {"image": ("a", b"image: cat"), "num_beams": (None, "many")}}, "num_beams"),
    "many images": ({"files": [("image", ("a", b"image: cat"))] * 65}, "image"),
    "very many images": ({"files": [("image", ("a", b"image: cat"))] * 200}, "body"),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "body"),
    "no form": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "body"),
}


@pytest.mark.parametrize(("request_", "field"), FORMS.values(), ids=FORMS)
def test_what_is_wrong_with_a_form_is_named(client: TestClient, request_: dict[str, Any], field: str) -> None:
    error = refused(client.post("/api/caption", **request_), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == field


@pytest.mark.parametrize("content_type", ["text/plain", "image/png", "application/x-www-form-urlencoded", ""])
def test_another_kind_of_body_is_refused_with_what_is_taken(client: TestClient, content_type: str) -> None:
    response = client.post("/api/caption", content=b"image: cat", headers={"Content-Type": content_type})
    refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_large_body_is_refused(settings: Settings) -> None:
    with serving(settings, limits={"max_body_mb": 0.01}) as client:
        refused(send(client, b"image: cat" + bytes(20_000)), 413, "PAYLOAD_TOO_LARGE")


def test_the_limit_of_images_is_the_operators(settings: Settings) -> None:
    with serving(settings, limits={"max_images": 2}) as client:
        assert len(ask(client, {"batch": [CAT] * 2}).json()["captions"]) == 2
        refused(ask(client, {"batch": [CAT] * 3}), 400, "INVALID_REQUEST")
        refused(send(client, *[b"image: cat"] * 3), 400, "INVALID_REQUEST")


def test_an_image_that_the_engine_fails_on_spoils_no_other(settings: Settings) -> None:
    hosts = FakeHosts()
    hosts.prepare = lambda host: setattr(
        host, "on_run", lambda names: RunFailed("ValueError", "") if "dog" in names else None
    )
    with serving(settings, hosts) as client:
        answer = ask(client, {"batch": [CAT, b64("image: dog"), b64("image: cow")]}).json()["captions"]
        assert [item.get("caption") for item in answer] == ["a picture of cat", None, "a picture of cow"]
        assert answer[1]["error"]["code"] == "INFERENCE_FAILED"
        refused(ask(client, {"image": b64("image: dog")}), 500, "INFERENCE_FAILED")


def test_a_key_may_caption_only_with_its_models(settings: Settings) -> None:
    with serving(settings, security={"api_keys": [key_entry("app", "app", "caption", models=["other"])]}) as client:
        response = client.post("/api/caption", json={"image": CAT}, headers=bearer("app"))
        refused(response, 403, "FORBIDDEN")


def test_the_default_model_is_the_first_and_a_disabled_one_says_so(client: TestClient) -> None:
    assert ask(client, {"image": CAT}).json()["model_used"] == "blip-base"
    refused(ask(client, {"image": CAT, "model": "llava"}), 409, "MODEL_NOT_LOADED")
    refused(ask(client, {"image": CAT, "model": "nope"}), 404, "MODEL_NOT_FOUND")


def test_what_is_one_request_too_many_is_not_even_decoded(settings: Settings) -> None:
    hosts, working = FakeHosts(), asyncio.Event()
    hosts.prepare = lambda host: setattr(host, "busy", working if host.plan.engine == decoder.ENGINE else None)
    resources = {"max_concurrent_requests": 1, "max_queued_requests": 0}
    with serving(settings, hosts, resources=resources) as client, asking(client, working) as (pool, go_on):
        first = pool.submit(ask, client, {"image": CAT})
        while not (hosts.started and hosts.started[0].runs):
            time.sleep(0.005)
        refused(ask(client, {"image": b64("image: dog")}), 503, "RESOURCE_EXHAUSTED")
        go_on()
        assert first.result().json()["caption"] == "a picture of cat"
    assert hosts.started[0].runs == [["image: cat"]]
