"""The errors that clients are told: one class a code, all of them documented."""

import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from homelab_ai import errors
from homelab_ai.errors import MethodNotAllowed, ResourceExhausted, ServiceError, Unauthorized


def below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


EVERY = sorted(set(below(ServiceError)), key=lambda kind: kind.__name__)
every_error = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(codes) == len(set(codes))


def test_the_tree_in_the_docstring_lists_exactly_these() -> None:
    listed = re.findall(r"[├└]── (\w+) +(\d{3})  (\w+)$", errors.__doc__ or "", re.MULTILINE)
    assert sorted(listed) == sorted((kind.__name__, str(kind.status), kind.code) for kind in EVERY)
    assert (errors.__doc__ or "").count("──") == len(listed)
    assert [status for _, status, _ in listed] == sorted(status for _, status, _ in listed)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_REQUEST", 400),
        ("MODEL_NOT_FOUND", 404),
        ("MODEL_LOAD_FAILED", 503),
        ("INFERENCE_FAILED", 500),
        ("RESOURCE_EXHAUSTED", 503),
        ("MODEL_NOT_LOADED", 409),
        ("UNAUTHORIZED", 401),
        ("FORBIDDEN", 403),
        ("TIMEOUT", 504),
    ],
)
def test_a_code_keeps_its_status(code: str, status: int) -> None:
    assert [kind.status for kind in EVERY if kind.code == code] == [status]


@every_error
def test_an_error_is_defined_here_and_documented_for_the_caller(kind: type[ServiceError]) -> None:
    assert kind.__module__ == "homelab_ai.errors"
    assert {"code", "status", "__doc__"} <= vars(kind).keys()
    text = (vars(kind)["__doc__"] or "").strip()
    assert re.fullmatch(r"[A-Z][^\n]+\.", text)
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)
    assert 400 <= HTTPStatus(kind.status) < 600


@every_error
def test_its_message_is_its_text(kind: type[ServiceError]) -> None:
    error = kind("a sentence", allow="GET") if kind is MethodNotAllowed else kind("a sentence")
    assert (error.message, str(error)) == ("a sentence", "a sentence")
    assert isinstance(error.details, dict)


def test_headers_belong_to_the_error() -> None:
    assert ServiceError("x").headers == {}
    assert ResourceExhausted("x", retry_after_seconds=5).headers == {"Retry-After": "5"}
    assert ResourceExhausted("x", retry_after_seconds=0).headers == {"Retry-After": "0"}
    assert Unauthorized("x").headers["WWW-Authenticate"].startswith("Bearer ")
    assert MethodNotAllowed("x", allow="GET, HEAD").headers == {"Allow": "GET, HEAD"}


def test_details_are_the_errors_own_copy() -> None:
    shared = {"model_id": "minilm"}
    error = ServiceError("x", details=shared)
    error.details["more"] = 1
    assert shared == {"model_id": "minilm"}
