"""Who may call what: every route of the service, one by one. A route that the table does not know fails."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from contract.answers import Response, bearer, key_entry, refused, serving
from homelab_ai.api.keys import ALL_SCOPES
from homelab_ai.app import create_app
from homelab_ai.settings import Settings

Access = Literal["probe", "public", "caller", "embed", "caption", "crawl", "read", "admin"]
"""A probe is open to every address; what is public needs no key, but an allowed address; what is for callers any key or
identity; the rest needs this scope."""

TABLE: dict[tuple[str, str], Access] = {
    ("GET", "/health"): "probe",
    ("HEAD", "/health"): "probe",
    ("GET", "/ready"): "probe",
    ("HEAD", "/ready"): "probe",
    ("GET", "/"): "public",
    ("HEAD", "/"): "public",
    ("GET", "/admin"): "public",
    ("HEAD", "/admin"): "public",
    ("GET", "/admin/{name:path}"): "public",
    ("HEAD", "/admin/{name:path}"): "public",
    ("GET", "/docs"): "public",
    ("GET", "/docs/oauth2-redirect"): "public",
    ("*", "/docs/assets"): "public",
    ("GET", "/openapi.json"): "public",
    ("HEAD", "/openapi.json"): "public",
    ("POST", "/api/embed"): "embed",
    ("POST", "/api/caption"): "caption",
    ("GET", "/api/models"): "read",
    ("POST", "/api/models"): "admin",
    ("GET", "/api/models/{model_id:path}"): "read",
    ("PATCH", "/api/models/{model_id:path}"): "admin",
    ("DELETE", "/api/models/{model_id:path}"): "admin",
    ("POST", "/api/models/{model_id:path}/pull"): "admin",
    ("GET", "/api/models/{model_id:path}/pull"): "read",
    ("POST", "/api/models/{model_id:path}/load"): "admin",
    ("POST", "/api/models/{model_id:path}/unload"): "admin",
    ("GET", "/api/keys"): "admin",
    ("POST", "/api/keys"): "admin",
    ("DELETE", "/api/keys/{name:path}"): "admin",
    ("POST", "/api/crawl"): "crawl",
    ("GET", "/api/status"): "read",
    ("GET", "/api/stream"): "read",
    ("GET", "/api/whoami"): "caller",
    ("GET", "/metrics"): "read",
}
UNCOUNTED = {("GET", "/metrics")}
"""What no rate limit is for: a monitoring must not miss when it matters."""
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/api/crawl"): {"url": "nowhere"},
    ("POST", "/api/embed"): {"texts": ["a"]},
    ("POST", "/api/caption"): {"image": "aW1hZ2U6IGNhdA=="},  # what the fake decoder takes for one
    ("POST", "/api/models"): {"type": "text_embedding", "id": "new", "hf_model": "org/new"},
    ("PATCH", "/api/models/{model_id:path}"): {"default": True},
    ("POST", "/api/keys"): {"name": "new"},
}
UNSERVED = [
    "/nope",
    "/docsx",
    "/adminx",
    "//admin",
    "//admin/",
    "/Admin/",
    "/healthz",
    "/Health",
    "/api",
    "/openapi.json/",
    "//health",
    "//docs",
    "/%2fhealth",
]
SCOPED = {route: scope for route, scope in TABLE.items() if scope not in {"probe", "public", "caller"}}
PROTECTED = SCOPED | {route: "read" for route, access in TABLE.items() if access == "caller"}
"""Where it takes a key, and a scope whose key is let in."""
every_route = pytest.mark.parametrize(("route", "access"), TABLE.items(), ids=map(" ".join, TABLE))
every_scoped_route = pytest.mark.parametrize(("route", "scope"), SCOPED.items(), ids=map(" ".join, SCOPED))
every_protected_route = pytest.mark.parametrize(("route", "scope"), PROTECTED.items(), ids=map(" ".join, PROTECTED))

HOME = ["192.168.1.0/24"]
LISTED, UNLISTED = "192.168.1.7", "203.0.113.9"


def keys() -> list[dict[str, object]]:
    """A key of each scope alone, one of each scope left out, and one with all."""
    single = [key_entry(f"only-{scope}", f"only-{scope}", scope) for scope in ALL_SCOPES]
    others = [key_entry(f"not-{scope}", f"not-{scope}", *(ALL_SCOPES - {scope})) for scope in ALL_SCOPES]
    return [*single, *others, key_entry("all", "all", *ALL_SCOPES)]


@contextmanager
def locked(settings: Settings, *, peer: str = LISTED, **security: object) -> Iterator[TestClient]:
    with serving(settings, peer=peer, security={"api_keys": keys(), **security}) as client:
        yield client


def call(client: TestClient, route: tuple[str, str], headers: dict[str, str] | None = None) -> Response:
    method, path = route
    body = BODIES.get((method, path.removeprefix("/ai")))
    path = path.replace("/admin/{name:path}", "/admin/index.html")
    path = path.replace("{model_id:path}", "minilm").replace("{name:path}", "all")
    if method == "*":
        method, path = "GET", f"{path}/swagger-ui.css"
    assert "{" not in path
    if path.endswith("/api/stream"):  # which has no other end, and is read to it here
        assert client.portal
        client.portal.call(client.app_state["stopping"].set)
    accepted = {"Accept": "text/html, */*"}  # as browsers say it: for all others there is nothing at /
    return client.request(method, path, json=body, headers={**accepted, **(headers or {})})


def basic(user: str, key: str) -> dict[str, str]:
    """The header of a client that sends the key as a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def is_forbidden(response: Response, route: tuple[str, str]) -> bool:
    """Whether it is refused with 403; in the envelope, unless the answer has no body."""
    return response.status_code == 403 if route[0] == "HEAD" else bool(refused(response, 403, "FORBIDDEN"))


def is_let_in(response: Response) -> bool:
    """Whether the route itself has answered; the second time, it finds done what was to be done."""
    if response.status_code in {404, 409}:
        return bool(response.json()["error"]["code"] in {"MODEL_NOT_FOUND", "CONFLICT"})
    if response.status_code == 400:
        return bool(response.json()["error"]["details"]["errors"][0]["field"] == "url")
    return response.status_code in {200, 201, 202, 204}


def test_the_table_knows_every_route(settings: Settings) -> None:
    found: set[tuple[str, str]] = set()
    for context in iter_route_contexts(create_app(settings).routes):
        assert context.path, f"a route of a kind that this test does not know: {context.original_route}"
        methods = {"*"} if isinstance(context.original_route, Mount) else context.methods
        assert methods, f"a route of a kind that this test does not know: {context.original_route}"
        found |= {(method, context.path) for method in methods}
    assert found == TABLE.keys()


def test_the_document_names_the_scope_that_each_route_needs(settings: Settings) -> None:
    paths = create_app(settings).openapi()["paths"]
    for (method, path), access in TABLE.items():
        operation = paths.get(path.replace(":path}", "}"), {}).get(method.lower())
        if operation and access not in {"probe", "public"}:
            assert operation["security"] == [{"API key": [] if access == "caller" else [access]}]
        else:
            assert access in {"probe", "public"}
            assert not operation or "security" not in operation


@every_route
def test_without_a_key(settings: Settings, route: tuple[str, str], access: Access) -> None:
    with locked(settings) as client:
        response = call(client, route)
        if access in {"probe", "public"}:
            assert is_let_in(response)
        else:
            refused(response, 401, "UNAUTHORIZED")


@every_protected_route
def test_with_a_wrong_key(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings) as client:
        for key in ("wrong", "", "only", f"only-{scope}x", f"ONLY-{scope}"):
            refused(call(client, route, bearer(key)), 401, "UNAUTHORIZED")
        refused(call(client, route, {"Authorization": f"Basic only-{scope}"}), 401, "UNAUTHORIZED")
        refused(call(client, route, {"X-API-Key": f"only-{scope}"}), 401, "UNAUTHORIZED")


@every_protected_route
def test_with_a_key_in_the_url(settings: Settings, route: tuple[str, str], scope: str) -> None:
    method, path = route
    with locked(settings) as client:
        for name in ("api_key", "apikey", "key", "token", "access_token"):
            refused(call(client, (method, f"{path}?{name}=all")), 401, "UNAUTHORIZED")


@every_scoped_route
def test_with_a_key_as_a_password(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings) as client:
        for user in ("", "anybody", "all"):
            refused(call(client, route, basic(user, "wrong")), 401, "UNAUTHORIZED")
            error = refused(call(client, route, basic(user, f"not-{scope}")), 403, "FORBIDDEN")
            assert error["details"] == {"scope": scope}
        refused(call(client, route, basic("all", "")), 401, "UNAUTHORIZED")
        refused(call(client, route, basic(f"only-{scope}", "x")), 401, "UNAUTHORIZED")
        for other in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):  # as a browser adds it
            refused(call(client, route, {**basic("", f"only-{scope}"), **other}), 403, "FORBIDDEN")
        assert is_let_in(call(client, route, basic("anybody", f"only-{scope}")))


def test_whoever_may_not_is_told_so_before_the_body_is_read(settings: Settings) -> None:
    """A body is what costs: gigabytes and seconds, for somebody who may not even ask."""
    with locked(settings) as client:
        for path in ("/api/embed", "/api/caption", "/api/models", "/api/keys"):
            answer = client.post(
                path, content=b"{" * 1000, headers={**bearer("only-crawl"), "Content-Type": "application/json"}
            )
            refused(answer, 403, "FORBIDDEN")


@pytest.fixture
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of day stand still, so that no window ends in the middle of a test."""
    monkeypatch.setattr("time.time", lambda: 1_800_000_030.5)


@pytest.mark.usefixtures("one_moment")
@every_protected_route
def test_over_the_rate_limit(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings, rate_limit="2/day") as client:
        headers = bearer(f"only-{scope}")
        if route in UNCOUNTED:
            answers = [call(client, route, headers) for _ in range(5)]
            assert all(is_let_in(answer) and "RateLimit-Limit" not in answer.headers for answer in answers)
            return
        for left in ("1", "0"):
            answer = call(client, route, headers)
            assert is_let_in(answer)
            assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("2", left)
        answer = call(client, route, headers)
        error = refused(answer, 429, "RATE_LIMIT_EXCEEDED")
        assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"]
        assert error["details"] == {"rate_limit": "2/day", "retry_after_seconds": int(answer.headers["Retry-After"])}
        assert is_let_in(call(client, route, bearer("all"))), "each key has a count of its own"


@pytest.mark.usefixtures("one_moment")
@every_protected_route
def test_after_too_many_wrong_keys(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings) as client:
        assert is_let_in(call(client, route, bearer("all")))
        for _ in range(20):
            refused(call(client, route, bearer("wrong")), 401, "UNAUTHORIZED")
        for key in ("wrong", f"only-{scope}"):
            answer = call(client, route, bearer(key))
            refused(answer, 429, "RATE_LIMIT_EXCEEDED")
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert is_let_in(call(client, route, bearer("all"))), "it was right from here a moment ago"


@every_route
def test_what_is_open_is_not_counted(settings: Settings, route: tuple[str, str], access: Access) -> None:
    if access in {"probe", "public"}:
        with locked(settings, rate_limit="1/day") as client:
            for _ in range(3):
                answer = call(client, route, bearer("wrong"))
                assert is_let_in(answer)
                assert "RateLimit-Limit" not in answer.headers


@every_protected_route
def test_with_a_forged_header_beside_that_of_the_proxy(settings: Settings, route: tuple[str, str], scope: str) -> None:
    proxied = {"trusted_proxies": ["10.0.0.1"]}
    security = {"api_keys": keys(), "ip_allowlist": HOME}
    with serving(settings, peer="10.0.0.1", server=proxied, security=security) as client:
        for forged in ({"Forwarded": f"for={LISTED}"}, {"Forwarded": f"for={LISTED}, for=10.0.0.1"}):
            refused(call(client, route, {**bearer("all"), "X-Forwarded-For": UNLISTED, **forged}), 403, "FORBIDDEN")
        forged = {"X-Forwarded-For": LISTED, "Forwarded": f"for={UNLISTED}"}
        refused(call(client, route, {**bearer("all"), **forged}), 403, "FORBIDDEN")
        for true in ({"X-Forwarded-For": LISTED}, {"Forwarded": f"for={LISTED}"}):
            assert is_let_in(call(client, route, {**bearer("all"), **true}))


@every_route
def test_no_page_is_shown_within_one_of_another_site(
    settings: Settings, route: tuple[str, str], access: Access
) -> None:
    with locked(settings) as client:
        answer = call(client, route)
        assert answer.headers.get("X-Frame-Options") == ("DENY" if access == "public" else None)
        assert access == "public" or "text/html" not in answer.headers["Content-Type"]


@every_protected_route
def test_a_browser_is_told_nothing_of_other_origins(settings: Settings, route: tuple[str, str], scope: str) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": route[0]}
    for security in ({}, {"allow_localhost": True}, {"auth_enabled": False}):
        with locked(settings, peer="127.0.0.1", **security) as client:
            answer = call(client, ("OPTIONS", route[1]), preflight)
            assert answer.status_code in {401, 403}
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@every_scoped_route
def test_with_a_key_that_lacks_the_scope(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings) as client:
        for key in (f"not-{scope}", *(f"only-{other}" for other in ALL_SCOPES - {scope})):
            error = refused(call(client, route, bearer(key)), 403, "FORBIDDEN")
            assert error["details"] == {"scope": scope}


@every_protected_route
def test_with_the_right_key(settings: Settings, route: tuple[str, str], scope: str) -> None:
    with locked(settings) as client:
        for key in (f"only-{scope}", "all"):
            assert is_let_in(call(client, route, bearer(key)))


@every_route
def test_from_an_address_outside_the_allowlist(settings: Settings, route: tuple[str, str], access: Access) -> None:
    with locked(settings, peer=UNLISTED, ip_allowlist=HOME) as client:
        for headers in ({}, bearer("all")):
            response = call(client, route, headers)
            if access == "probe":
                assert is_let_in(response)
            else:
                assert is_forbidden(response, route)


@every_route
def test_from_an_address_in_the_allowlist(settings: Settings, route: tuple[str, str], access: Access) -> None:
    with locked(settings, ip_allowlist=HOME) as client:
        assert is_let_in(call(client, route, bearer("all")))


@every_route
def test_with_a_forged_proxy_header(settings: Settings, route: tuple[str, str], access: Access) -> None:
    with locked(settings, peer=UNLISTED, ip_allowlist=HOME) as client:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "Client-IP"):
            for claim in (LISTED, f"for={LISTED}", f"{LISTED}, {LISTED}"):
                response = call(client, route, {**bearer("all"), name: claim})
                if access == "probe":
                    assert is_let_in(response)
                else:
                    assert is_forbidden(response, route)


@every_protected_route
def test_a_forged_proxy_header_does_not_make_a_stranger_local(
    settings: Settings, route: tuple[str, str], scope: str
) -> None:
    here = {"cidr": "127.0.0.0/8", "name": "here"}
    with locked(settings, peer=UNLISTED, allow_localhost=True, networks=[here]) as client:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            refused(call(client, route, {name: "127.0.0.1"}), 401, "UNAUTHORIZED")


@every_protected_route
def test_a_proxy_on_this_machine_is_not_taken_for_its_user(
    settings: Settings, route: tuple[str, str], scope: str
) -> None:
    with locked(settings, peer="127.0.0.1", allow_localhost=True) as client:
        assert is_let_in(call(client, route))
        for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"):
            refused(call(client, route, {name: "127.0.0.1"}), 401, "UNAUTHORIZED")


@every_scoped_route
def test_from_a_network_with_an_identity(settings: Settings, route: tuple[str, str], scope: str) -> None:
    others = sorted(ALL_SCOPES - {scope, "admin"})
    rooms = [{"cidr": "192.168.1.8", "name": "may-not", "scopes": others}]
    if scope != "admin":  # which no network can be given
        rooms.append({"cidr": LISTED, "name": "may", "scopes": [scope]})
        with locked(settings, networks=rooms) as client:
            assert is_let_in(call(client, route))
            refused(call(client, route, {"Host": "evil.example"}), 403, "FORBIDDEN")
            refused(call(client, route, {"Sec-Fetch-Site": "cross-site"}), 403, "FORBIDDEN")
    with locked(settings, peer="192.168.1.8", networks=rooms) as client:
        assert refused(call(client, route), 403, "FORBIDDEN")["details"] == {"scope": scope}


@pytest.mark.parametrize("path", UNSERVED)
def test_a_path_where_nothing_is_served_is_as_closed(settings: Settings, path: str) -> None:
    with locked(settings) as client:
        # The whole address: to the client, what begins with two slashes alone names a host.
        refused(client.get(f"http://localhost{path}"), 401, "UNAUTHORIZED")


def test_a_method_that_a_route_does_not_take_is_as_closed(settings: Settings) -> None:
    with locked(settings) as client:
        for method, path in PROTECTED:
            refused(call(client, ("DELETE" if method != "DELETE" else "GET", path)), 401, "UNAUTHORIZED")


def test_what_is_open_is_no_way_around(settings: Settings) -> None:
    tails = ["/", "/%2e%2e/api/models", "%2f..%2fapi%2fmodels", ";/api/models", "%00", "%0a", "%3f/api/models"]
    with locked(settings) as client:
        for open_to_all in ("/health", "/ready", "/docs", "/docs/assets", "/openapi.json", "/admin/", "/admin/js"):
            for tail in tails:
                response = client.get(open_to_all + tail, follow_redirects=False)
                assert response.status_code in {401, 404}, open_to_all + tail


@every_route
def test_the_rules_are_the_same_below_a_prefix(settings: Settings, route: tuple[str, str], access: Access) -> None:
    method, path = route
    with serving(settings, peer=LISTED, server={"root_path": "/ai"}, security={"api_keys": keys()}) as client:
        for prefix in ("/ai", ""):  # a proxy may take the prefix away or leave it
            response = call(client, (method, prefix + path))
            assert is_let_in(response) is (access in {"probe", "public"})
            assert is_let_in(call(client, (method, prefix + path), bearer("all")))


def test_a_websocket_is_refused(settings: Settings) -> None:
    with locked(settings) as client:
        for path in ("/api/embed", "/health", "/docs", "/nope"):
            with pytest.raises(WebSocketDisconnect) as raised, client.websocket_connect(path, headers=bearer("all")):
                pass
            assert raised.value.code == 1008
