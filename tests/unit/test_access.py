"""The gate: which addresses may connect, whose a request is, and which web pages are kept out."""

import base64
import hashlib
from typing import Any

import pytest
from starlette.datastructures import Headers

from homelab_ai.api.access import Gate
from homelab_ai.api.client import Client
from homelab_ai.api.keys import ALL_SCOPES, Identity, KeyRing
from homelab_ai.errors import Forbidden, Unauthorized
from homelab_ai.settings import ALL_BUT_ADMIN, Settings
from homelab_ai.state import StoredKey
from support.gates import HOME, KEY, STRANGER, client, gate, headers

# --- the allowlist


@pytest.mark.parametrize(
    ("allowlist", "address", "allowed"),
    [
        ([], "203.0.113.9", True),
        (["192.168.1.0/24", "127.0.0.1"], "192.168.1.7", True),
        (["192.168.1.0/24", "127.0.0.1"], "127.0.0.1", True),
        (["192.168.1.0/24", "127.0.0.1"], "127.0.0.2", False),
        (["192.168.1.0/24", "127.0.0.1"], "192.168.2.7", False),
        (["192.168.1.0/24", "127.0.0.1"], "::1", False),
        (["fd00::/8"], "fd12::7", True),
        (["fd00::/8"], "2001:db8::7", False),
        (["fd00::/8"], "192.168.1.7", False),
        (["0.0.0.0/0"], "2001:db8::7", False),
        (["::/0"], "192.168.1.7", False),
    ],
)
def test_the_allowlist_admits_its_addresses_and_no_others(allowlist: list[str], address: str, *, allowed: bool) -> None:
    door = gate(ip_allowlist=allowlist)
    if allowed:
        door.check_address(client(address))
    else:
        with pytest.raises(Forbidden) as raised:
            door.check_address(client(address))
        assert address in raised.value.message
        assert "security.ip_allowlist" in raised.value.message


def test_an_allowlist_refuses_who_comes_from_nowhere_or_from_one_of_two_places() -> None:
    door = gate(ip_allowlist=["192.168.1.0/24"])
    for somebody in (client(direct=False), client("192.168.1.7", "127.0.0.1"), client("127.0.0.1", "192.168.1.7")):
        with pytest.raises(Forbidden):
            door.check_address(somebody)
    gate(ip_allowlist=["192.168.1.0/24", "127.0.0.1"]).check_address(client("192.168.1.7", "127.0.0.1"))


# --- keys


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER {KEY}", f"Bearer  {KEY} ", f"Bearer \t{KEY}\t"],
)
def test_a_known_key_tells_who_is_asking(authorization: str) -> None:
    identity = gate().identify(STRANGER, headers(authorization=authorization))
    assert identity == Identity("app", frozenset({"embed"}))


WRONG: list[str | bytes] = [
    "",
    "Bearer",
    "Bearer ",
    f"Bearer {KEY}x",
    f"Bearer {KEY[:-1]}",
    f"Bearer {KEY.upper()}",
    f"Bearer {KEY} {KEY}",
    f"Bearer,{KEY}",
    f"Bearer\t{KEY}",
    f"Basic {KEY}",
    f"Token {KEY}",
    f" Bearer {KEY}",
    KEY,
    f"Bearer {hashlib.sha256(KEY.encode()).hexdigest()}",
    f"Bearer {KEY}\0",
    f"Bearer {KEY}".encode() + b"\xff",
    b"Bearer \xff\xfe\x80",
    "Bearer clé".encode(),
    b"\xff",
    f"Bearer {'k' * 100_000}",
]


@pytest.mark.parametrize("authorization", WRONG, ids=range(len(WRONG)))
def test_anything_else_in_its_place_is_refused_and_not_repeated(authorization: str | bytes) -> None:
    door = gate(allow_localhost=True, networks=[{"cidr": "192.168.1.0/24", "name": "home"}])
    for somebody in (STRANGER, HOME, client("127.0.0.1")):  # a wrong key is never better than none
        with pytest.raises(Unauthorized) as raised:
            door.identify(somebody, headers(authorization=authorization))
        assert KEY not in raised.value.message
        assert raised.value.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_hash_of_an_empty_key_opens_nothing() -> None:
    # What `printf %s $KEY | sha256sum` gives when KEY was not set. The configuration refuses it.
    slip = StoredKey("slip", hashlib.sha256(b"").hexdigest(), ("embed",))
    door = Gate(Settings(), KeyRing(Settings().security, [slip]))
    for authorization in ("Bearer", "Bearer ", "bearer  "):
        with pytest.raises(Unauthorized):
            door.identify(STRANGER, headers(authorization=authorization))


def test_without_a_key_nobody_is_known() -> None:
    for somebody in (STRANGER, HOME, client("127.0.0.1"), client("::1"), client(direct=False)):
        with pytest.raises(Unauthorized, match="key is needed"):
            gate().identify(somebody, headers())


def test_a_key_needs_no_host_and_no_origin_of_ours() -> None:
    page = headers("evil.example", authorization=f"Bearer {KEY}", origin="https://x.y", sec_fetch_site="cross-site")
    assert gate().identify(STRANGER, page).name == "app"
    assert gate().identify(STRANGER, headers(None, authorization=f"Bearer {KEY}")).name == "app"


# --- no authentication


def test_with_authentication_off_anyone_may_do_anything() -> None:
    for somebody in (STRANGER, client(direct=False)):
        assert gate(auth_enabled=False).identify(somebody, headers()).scopes == ALL_SCOPES
        wrong = headers(authorization="Bearer nonsense")
        assert gate(auth_enabled=False).identify(somebody, wrong).scopes == ALL_SCOPES


def test_with_authentication_off_a_known_key_is_still_what_it_is() -> None:
    identity = gate(auth_enabled=False).identify(STRANGER, headers(authorization=f"Bearer {KEY}"))
    assert identity.scopes == {"embed"}


# --- this machine


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_a_program_on_this_machine_may_be_let_in_without_a_key(address: str, host: str) -> None:
    identity = gate(allow_localhost=True).identify(client(address), headers(host))
    assert (identity.name, identity.scopes) == ("localhost", ALL_SCOPES)


@pytest.mark.parametrize(
    ("allow", "somebody", "host"),
    [
        pytest.param(False, client("127.0.0.1"), "localhost", id="not-switched-on"),
        pytest.param(True, HOME, "localhost", id="not-loopback"),
        pytest.param(True, client("127.0.0.1", direct=False), "localhost", id="through-a-proxy"),
        pytest.param(True, client(direct=False), "localhost", id="from-nowhere"),
        pytest.param(True, client("127.0.0.1"), "nas.lan", id="another-host"),
        pytest.param(True, client("127.0.0.1"), "localhost.evil.example", id="a-longer-host"),
        pytest.param(True, client("127.0.0.1"), "127.0.0.1.evil.example", id="a-longer-address"),
        pytest.param(True, client("127.0.0.1"), "localhost@evil.example", id="a-user-called-localhost"),
        pytest.param(True, client("127.0.0.1"), "", id="an-empty-host"),
        pytest.param(True, client("127.0.0.1"), None, id="no-host"),
    ],
)
def test_each_condition_of_this_machine_counts(*, allow: bool, somebody: Client, host: str | None) -> None:
    door = gate({"allowed_hosts": ["localhost", "nas.lan"]}, allow_localhost=allow)
    with pytest.raises(Unauthorized):
        door.identify(somebody, headers(host))


# --- networks


def test_a_network_gives_its_machines_their_identity() -> None:
    rooms = [
        {"cidr": "192.168.1.7", "name": "player", "scopes": ["embed"]},
        {"cidr": "192.168.1.0/24", "name": "home"},
        {"cidr": "fd00::/8", "name": "home6", "scopes": ["read"]},
    ]
    door = gate(networks=rooms)
    assert door.identify(HOME, headers()).scopes == {"embed"}
    assert door.identify(client("192.168.1.8"), headers()).scopes == set(ALL_BUT_ADMIN)
    assert door.identify(client("fd00::1"), headers()).name == "home6"
    for somebody in (STRANGER, client("192.168.2.1"), client("192.168.1.7", "127.0.0.1"), client(direct=False)):
        with pytest.raises(Unauthorized):
            door.identify(somebody, headers())


def test_a_key_comes_before_the_network() -> None:
    door = gate(networks=[{"cidr": "192.168.1.0/24", "name": "home"}])
    assert door.identify(HOME, headers(authorization=f"Bearer {KEY}")).name == "app"


# --- web pages

OPEN: dict[str, dict[str, Any]] = {
    "authentication-off": {"auth_enabled": False},
    "localhost": {"allow_localhost": True},
    "network": {"networks": [{"cidr": "127.0.0.1", "name": "here"}]},
}
HOSTS = {"allowed_hosts": ["localhost", "127.0.0.1", "::1", "Nas.LAN"]}


@pytest.mark.parametrize("security", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize(
    "page",
    [
        headers("localhost"),
        headers("[::1]:8000"),
        headers("localhost:8000", origin="http://localhost:8000", sec_fetch_site="same-origin"),
        headers("127.0.0.1:8000", origin="http://127.0.0.1:8000"),
        headers("[::1]:8000", origin="http://[::1]:8000"),
        headers("localhost", origin="https://NAS.lan:8443", sec_fetch_site="same-site"),
        headers("localhost", sec_fetch_site="none"),
    ],
    ids=str,
)
def test_a_page_of_our_own_may_use_the_place_of_its_visitor(security: dict[str, Any], page: Headers) -> None:
    assert gate(HOSTS, **security).identify(client("127.0.0.1"), page).scopes


FOREIGN: dict[str, Headers] = {
    "rebound-name": headers("evil.example:8000"),
    "rebound-name-same-origin": headers("evil.example", origin="http://evil.example", sec_fetch_site="same-origin"),
    "address-not-listed": headers("192.168.1.2:8000"),
    "no-host": headers(None),
    "empty-host": headers(""),
    "bare-ipv6": headers("::1"),
    "trailing-dot": headers("localhost.evil.example"),
    "cross-site": headers(sec_fetch_site="cross-site"),
    "foreign-origin": headers(origin="https://evil.example"),
    "foreign-origin-same-site": headers(origin="https://evil.example", sec_fetch_site="same-site"),
    "origin-with-our-name-as-user": headers(origin="https://localhost@evil.example"),
    "origin-with-our-name-in-front": headers(origin="https://localhost.evil.example"),
    "opaque-origin": headers(origin="null"),
    "empty-origin": headers(origin=""),
    "origin-without-scheme": headers(origin="localhost"),
    "origin-of-a-file": headers(origin="file://"),
    "broken-origin": headers(origin="http://["),
    "origin-of-bytes": headers(origin=b"http://\xff\xfe"),
}


@pytest.mark.parametrize("security", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("page", FOREIGN.values(), ids=FOREIGN)
def test_a_page_of_another_site_may_not(security: dict[str, Any], page: Headers) -> None:
    with pytest.raises((Forbidden, Unauthorized)) as raised:
        gate(HOSTS, **security).identify(client("127.0.0.1"), page)
    # Only where the host is not of this machine does allow_localhost not apply, and then a key is asked for.
    assert isinstance(raised.value, Forbidden) or "allow_localhost" in security


def test_whoever_is_refused_for_the_host_is_told_the_remedy() -> None:
    with pytest.raises(Forbidden, match=r"'nas\.lan'.*server\.allowed_hosts"):
        gate(auth_enabled=False).identify(HOME, headers("NAS.lan:8000"))


# --- hosts


@pytest.mark.parametrize("security", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize(
    "host",
    ["localhost.", "evil@localhost", "localhost:80@evil", "localhost:x", "local host", "[::1", "::1]", "[::1%25lo]",
     "[fe80::1%25eth0]:8000", "[[::1]]", "[::1]x", "localhost/", "http://localhost", "localhost,evil", ":8000",
     "0", "127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost\t", "*"],
)  # fmt: skip
def test_a_host_that_is_written_otherwise_is_none_of_ours(security: dict[str, Any], host: str) -> None:
    for each in (host, host.upper()):
        with pytest.raises((Forbidden, Unauthorized)):
            gate(HOSTS, **security).identify(client("127.0.0.1"), headers(each))


@pytest.mark.parametrize("security", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost:8000", "localhost:", "[::1]:8000", "NAS.LAN"])
def test_a_host_may_be_written_in_capitals_and_with_a_port(security: dict[str, Any], host: str) -> None:
    if host != "NAS.LAN" or "allow_localhost" not in security:  # which is for the names of this machine only
        assert gate(HOSTS, **security).identify(client("127.0.0.1"), headers(host)).scopes


def test_two_hosts_are_none() -> None:
    twice = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
    for security in OPEN.values():
        with pytest.raises((Forbidden, Unauthorized)):
            gate(HOSTS, **security).identify(client("127.0.0.1"), twice)


# --- keys as passwords


def basic(credentials: str | bytes) -> str:
    return "Basic " + base64.b64encode(credentials if isinstance(credentials, bytes) else credentials.encode()).decode()


@pytest.mark.parametrize("user", ["", "api", "somebody@example.org", "user name", "ü"])
def test_a_key_may_come_as_the_password_of_anybody(user: str) -> None:
    for scheme in ("Basic", "basic", "BASIC"):
        authorization = basic(f"{user}:{KEY}").replace("Basic", scheme)
        assert gate().identify(STRANGER, headers(authorization=authorization)).name == "app"


@pytest.mark.parametrize(
    "authorization",
    ["Basic", "Basic ", "Basic =", "Basic !!!!", basic(""), basic(":"), basic(KEY), basic(f"{KEY}:"), basic(f":{KEY}:"),
     basic(f":{KEY}\n"), basic(f"a:b:{KEY}"), basic(f":{KEY}")[:-1], basic(f":{KEY}") + "=", basic(b"\xff\xfe:\xff"),
     "Basic \xff", basic(f":{KEY}").replace("Basic ", "Basic"), "Basic " + basic(f":{KEY}")],
)  # fmt: skip
def test_what_is_no_password_of_ours_is_refused(authorization: str) -> None:
    with pytest.raises(Unauthorized) as raised:
        gate(allow_localhost=True).identify(client("127.0.0.1"), headers(authorization=authorization))
    assert KEY not in raised.value.message
    assert raised.value.headers["WWW-Authenticate"].startswith("Bearer"), "a browser is not to ask for a password"


def test_a_password_that_a_browser_adds_by_itself_is_of_no_use_to_another_site() -> None:
    sent = {"authorization": basic(f":{KEY}")}
    for page in (
        headers("nas.lan", **sent),
        headers("nas.lan", **sent, origin="http://nas.lan:8000", sec_fetch_site="same-origin"),
        headers("nas.lan", **sent, origin="http://localhost"),
    ):
        assert gate().identify(HOME, page).name == "app"
    for page in (
        headers("nas.lan", **sent, sec_fetch_site="cross-site"),
        headers("nas.lan", **sent, origin="http://evil.example"),
        headers("nas.lan", **sent, origin="null"),
        headers(None, **sent, origin="null"),
    ):
        with pytest.raises(Forbidden):
            gate().identify(HOME, page)
