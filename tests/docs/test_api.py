"""docs/api.md: every route, scope, error, header and limit that there is, and none that there is not."""

import re

import pytest

from contract.test_access_of_every_route import TABLE
from homelab_ai.api import reading
from homelab_ai.api.caption import CaptionRequest
from homelab_ai.app import create_app
from homelab_ai.errors import MethodNotAllowed, Unauthorized
from homelab_ai.settings import Settings
from support.documents import document, documents, in_backticks
from support.server import REPOSITORY
from unit.test_errors import EVERY

API = document("docs/api.md")
ROUTES = API.table("method", "path", "scope", "")
ERRORS = API.table("code", "status", "when", "what to do")
LIMITS = {row["in one request"]: row for row in API.table("in one request", "at most", "setting")}
SOURCE = REPOSITORY / "src" / "homelab_ai"


def test_every_route_stands_there_with_its_scope_and_no_other() -> None:
    documented = [(*in_backticks(row["method"]), *in_backticks(row["path"]), row["scope"]) for row in ROUTES]
    openly = {"probe": "open", "caller": "any"}
    served = {
        (method, path.replace(":path}", "}").replace("{model_id}", "{id}"), openly.get(scope, f"`{scope}`"))
        for (method, path), scope in TABLE.items()
        if scope != "public" and method != "HEAD"
    }
    assert len(documented) == len(served)
    assert {*documented} == served


def test_the_table_of_routes_is_that_of_the_openapi_document() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    described = {
        (method.upper(), path.replace("{model_id}", "{id}"))
        for path, operations in paths.items()
        for method in operations
    }
    assert {(*in_backticks(row["method"]), *in_backticks(row["path"])) for row in ROUTES} == described


def test_what_needs_no_key_is_named() -> None:
    public = {path.partition("{")[0] for (_, path), access in TABLE.items() if access == "public"}
    named = re.search(r"(`/docs`.*) need no key", API.text)
    assert named
    assert public - {"/", "/admin", "/docs/oauth2-redirect", "/docs/assets", "/admin/"} == {*in_backticks(named[1])}


def test_every_error_stands_there_with_its_status_and_no_other() -> None:
    documented = [(code, int(row["status"])) for row in ERRORS for code in in_backticks(row["code"])]
    assert sorted(documented) == sorted((kind.code, kind.status) for kind in EVERY)
    assert [status for _, status in documented] == sorted(status for _, status in documented)


def test_the_details_that_it_names_are_those_of_the_error() -> None:
    for row in ERRORS:
        (kind,) = (kind for kind in EVERY if [kind.code] == in_backticks(row["code"]))
        named = re.findall(r"`details\.(\w+)`", "".join(row.values()))
        assert {*named} <= kind.example_details.keys()


@pytest.mark.parametrize(
    ("what", "most"),
    [
        ("texts", Settings().limits.max_texts),
        ("images", Settings().limits.max_images),
        ("pixels of an image", Settings().limits.max_image_megapixels),
        ("body, with the images that are fetched for it", Settings().limits.max_body_mb),
        ("values in its JSON", reading._MOST_VALUES),
        ("characters of `prompt`", 4000),
        ("`max_new_tokens`", 1024),
    ],
)
def test_a_limit_is_that_of_the_code(what: str, most: float) -> None:
    (number,) = re.findall(r"[\d,]+", LIMITS[what]["at most"])
    assert float(number.replace(",", "")) == most
    for name in in_backticks(LIMITS[what]["setting"]):
        section, _, setting = name.partition(".")
        assert getattr(getattr(Settings(), section), setting) == most


def test_the_limits_of_a_caption_are_those_of_the_schema() -> None:
    schema = CaptionRequest.model_json_schema()["properties"]
    assert {"maxLength": 4000, "type": "string"} in schema["prompt"]["anyOf"]
    assert schema["max_new_tokens"]["maximum"] == 1024
    assert (schema["num_beams"]["minimum"], schema["num_beams"]["maximum"]) == (1, 10)
    assert "`num_beams`, 1 to 10" in API.text


def test_the_times_are_those_of_the_settings() -> None:
    seconds = Settings().resources.request_timeout_seconds
    assert f"`resources.request_timeout_seconds` ({seconds})" in API.text
    assert f"answers within {seconds} s" in API.text
    assert f"`crawl.timeout_seconds` ({Settings().crawl.timeout_seconds})" in API.text


def headers() -> set[str]:
    """The name of every header that the service reads of requests, or writes into answers."""
    paths = [*SOURCE.glob("api/*.py"), SOURCE / "errors.py", SOURCE / "server.py", SOURCE / "telemetry/tracing.py"]
    code = "".join(path.read_text() for path in paths)
    named = {*re.findall(r'"([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]+)+|traceparent)"', code)}
    named |= {*re.findall(r'headers(?:\.get\(|\.getlist\(|\[)"(\w+)"', code)}
    named |= {"-".join(name.title().split("_")) for name in re.findall(r"\b(x_\w+): Annotated", code)}
    return named | {*Unauthorized("x").headers, *MethodNotAllowed("x", allow="GET").headers}


def test_every_header_is_documented() -> None:
    tables = [*API.table("of a request", ""), *API.table("of an answer", "")]
    rows = {name for row in tables for name in in_backticks(next(iter(row.values())))}
    assert {"X-Request-ID", "X-Expect-Fingerprint", "Priority", "Location", "Allow"} <= rows
    assert rows <= headers()
    everywhere = {name for each in documents() for code in each.code for name in re.findall(r"[\w-]+", code)}
    assert headers() - rows - {"Content-Length"} <= everywhere
