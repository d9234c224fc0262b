"""Where a request comes from: what of the headers is believed, and from whom."""

import ipaddress
from collections.abc import Callable, Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from homelab_ai.api.client import Client, Network, client_of

Headers = Sequence[tuple[str, str]]


def fwd(*lines: str) -> Headers:
    return [("Forwarded", line) for line in lines]


def networks(*names: str) -> list[Network]:
    return [ipaddress.ip_network(name) for name in names]


def scope_of(peer: str | None, headers: Headers = ()) -> Scope:
    return {
        "type": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }


def seen(client: Client) -> list[str]:
    return [str(address) for address in client.addresses]


def xff(*lines: str) -> Headers:
    return [("X-Forwarded-For", line) for line in lines]


@pytest.mark.parametrize(
    ("peer", "address", "loopback"),
    [
        ("192.0.2.1", "192.0.2.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.9.1", "127.8.9.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("2001:DB8::0:1", "2001:db8::1", False),
        ("fe80::1%eth0", "fe80::1", False),
        ("0.0.0.0", "0.0.0.0", False),
    ],
)
def test_without_a_forwarding_header_the_peer_is_the_client(peer: str, address: str, *, loopback: bool) -> None:
    client = client_of(scope_of(peer), [])
    assert seen(client) == [address]
    assert client.direct_from_loopback is loopback
    assert str(client) == address


@pytest.mark.parametrize("peer", [None, "", "testclient", "/run/service.sock", "localhost", "127.1", "0x7f000001"])
@pytest.mark.parametrize("headers", [[], xff("127.0.0.1"), xff("192.0.2.1")])
def test_a_peer_without_an_address_comes_from_nowhere(peer: str | None, headers: Headers) -> None:
    client = client_of(scope_of(peer, headers), networks("0.0.0.0/0", "::/0"))
    assert client == Client((), direct_from_loopback=False)
    assert str(client) == "-"
    assert not client.is_in(networks("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"]
)
@pytest.mark.parametrize("value", ["", "127.0.0.1", "for=127.0.0.1"])
@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
def test_any_forwarding_header_means_that_loopback_does_not_speak_for_itself(
    header: str, value: str, proxies: list[str]
) -> None:
    for peer in ("127.0.0.1", "::1"):
        assert not client_of(scope_of(peer, [(header, value)]), networks(*proxies)).direct_from_loopback


ONE, TWO = ["10.0.0.1", "127.0.0.1"], ["10.0.0.0/30", "2001:db8:f::/64", "127.0.0.1"]
BELIEVED: list[tuple[str, str, Headers, list[str], str]] = [
    ("a listed proxy", "10.0.0.1", xff("192.0.2.7"), ONE, "192.0.2.7"),
    ("what the client claims stands to the left", "10.0.0.1", xff("127.0.0.1, 192.0.2.7"), ONE, "192.0.2.7"),
    ("claims in a line of their own", "10.0.0.1", xff("127.0.0.1", "192.0.2.7"), ONE, "192.0.2.7"),
    ("two proxies", "10.0.0.1", xff("6.6.6.6, 192.0.2.7, 10.0.0.2"), TWO, "192.0.2.7"),
    ("two proxies, a line each", "10.0.0.1", xff("192.0.2.7", "10.0.0.2"), TWO, "192.0.2.7"),
    ("two proxies, one of them listed", "10.0.0.1", xff("192.0.2.7, 10.0.0.2"), ONE, "10.0.0.2"),
    ("an IPv6 proxy", "2001:db8:f::1", xff("6.6.6.6,2001:db8::7"), TWO, "2001:db8::7"),
    ("a proxy of each family", "10.0.0.1", xff("2001:db8::7 , 2001:db8:f::9"), TWO, "2001:db8::7"),
    ("a proxy seen by a dual-stack socket", "::ffff:10.0.0.1", xff("192.0.2.7"), ONE, "192.0.2.7"),
    ("a mapped entry", "10.0.0.1", xff("::ffff:192.0.2.7"), ONE, "192.0.2.7"),
    ("an IPv4 entry with a port", "10.0.0.1", xff("192.0.2.7:50123"), ONE, "192.0.2.7"),
    ("an IPv6 entry in brackets", "10.0.0.1", xff("[2001:db8::7]"), ONE, "2001:db8::7"),
    ("an IPv6 entry with a port", "10.0.0.1", xff("[2001:db8::7]:50123"), ONE, "2001:db8::7"),
    ("a mapped entry with a port", "10.0.0.1", xff("[::ffff:192.0.2.7]:1"), ONE, "192.0.2.7"),
    ("an entry with a zone", "10.0.0.1", xff("fe80::7%eth0"), ONE, "fe80::7"),
    ("spaces and tabs", "10.0.0.1", xff("6.6.6.6,\t 192.0.2.7 \t"), ONE, "192.0.2.7"),
    ("a proxy that forwards nothing", "10.0.0.1", [("Via", "1.1 proxy")], ONE, "10.0.0.1"),
    ("only proxies all the way", "10.0.0.1", xff("10.0.0.3, 10.0.0.2"), TWO, "10.0.0.3"),
    ("garbage to the left of the truth", "10.0.0.1", xff("<script>, ,, \xff, 192.0.2.7"), ONE, "192.0.2.7"),
    ("X-Real-IP, spelled otherwise", "10.0.0.1", [("x-real-ip", "6.6.6.6"), *xff("192.0.2.7")], ONE, "192.0.2.7"),
    ("X-Real-IP is not read", "10.0.0.1", [("X-Real-IP", "6.6.6.6"), *xff("192.0.2.7")], ONE, "192.0.2.7"),
]


FORWARDED: list[tuple[str, Headers, list[str], list[str]]] = [
    ("one element", fwd("for=192.0.2.7"), ONE, ["192.0.2.7"]),
    ("with its companions", fwd("by=10.0.0.1;for=192.0.2.7;host=nas.lan;proto=https"), ONE, ["192.0.2.7"]),
    ("names in capitals, spaces around", fwd(" proto=http ; FOR=192.0.2.7 "), ONE, ["192.0.2.7"]),
    ("quoted, with a port", fwd('for="192.0.2.7:4711"'), ONE, ["192.0.2.7"]),
    ("IPv6 in brackets", fwd('For="[2001:db8:cafe::17]"'), ONE, ["2001:db8:cafe::17"]),
    ("IPv6 with a port", fwd('for="[2001:db8::7]:4711"'), ONE, ["2001:db8::7"]),
    ("IPv6 without the quotes", fwd("for=[2001:db8::7]:4711"), ONE, ["2001:db8::7"]),
    ("an escaped character", fwd(r'for="192.0.2\.7"'), ONE, ["192.0.2.7"]),
    ("a mapped address", fwd('for="[::ffff:192.0.2.7]"'), ONE, ["192.0.2.7"]),
    ("a claim to the left", fwd("for=6.6.6.6, for=192.0.2.7"), ONE, ["192.0.2.7"]),
    ("a claim in a line of its own", fwd("for=6.6.6.6", "for=192.0.2.7"), ONE, ["192.0.2.7"]),
    ("two proxies", fwd("for=6.6.6.6, for=192.0.2.7, for=10.0.0.2"), TWO, ["192.0.2.7"]),
    ("only proxies all the way", fwd("for=10.0.0.3, for=10.0.0.2"), TWO, ["10.0.0.3"]),
    ("garbage to the left", fwd('<script>, ,,=;"\xff, for=192.0.2.7'), ONE, ["192.0.2.7"]),
    ("a quote opened by the client", fwd('for=6.6.6.6;x=", for=192.0.2.7;host="h"'), ONE, ["192.0.2.7"]),
    ("a quote around a whole claim", fwd('for="6.6.6.6", for=192.0.2.7'), ONE, ["192.0.2.7"]),
    ("a backslash before the comma", fwd("for=6.6.6.6\\, for=192.0.2.7"), ONE, ["192.0.2.7"]),
    ("a host with a comma in it", fwd('for=192.0.2.7;host="a, for=6.6.6.6"'), ONE, ["192.0.2.7"]),
    ("a host with an escaped quote", fwd(r'for=192.0.2.7;host="a\",for=6.6.6.6"'), ONE, ["192.0.2.7"]),
    ("unknown", fwd("for=unknown"), ONE, []),
    ("obfuscated", fwd("for=_hidden"), ONE, []),
    ("obfuscated, with a port", fwd('for="_gazonk:80"'), ONE, []),
    ("unknown behind an address", fwd("for=192.0.2.7, for=unknown"), ONE, []),
    ("an element that names nobody", fwd("for=192.0.2.7, proto=https"), ONE, []),
    ("two names in one element", fwd("for=192.0.2.7;for=6.6.6.6"), ONE, []),
    ("an empty line", fwd(""), ONE, []),
    ("an empty element", fwd("for=192.0.2.7,"), ONE, []),
    ("a quote that does not end", fwd('for="192.0.2.7'), ONE, []),
    ("a name without its value", fwd("for"), ONE, []),
    ("a value without its name", fwd("192.0.2.7"), ONE, []),
    # both headers
    ("they agree", [*fwd("for=192.0.2.7"), *xff("192.0.2.7")], ONE, ["192.0.2.7"]),
    ("a forged one beside that of the proxy", [*fwd("for=6.6.6.6"), *xff("192.0.2.7")], ONE, ["192.0.2.7", "6.6.6.6"]),
    ("the same the other way", [*xff("6.6.6.6"), *fwd("for=192.0.2.7")], ONE, ["6.6.6.6", "192.0.2.7"]),
    ("a forged proxy beside", [*fwd("for=10.0.0.2"), *xff("192.0.2.7")], TWO, ["192.0.2.7"]),
    ("a forged chain beside", [*fwd("for=6.6.6.6, for=10.0.0.2"), *xff("192.0.2.7")], TWO, ["192.0.2.7", "6.6.6.6"]),
    ("the outer proxy writes one, the inner the other", [*fwd("for=192.0.2.7"), *xff("10.0.0.2")], TWO, ["192.0.2.7"]),
    ("garbage beside", [*fwd("for=unknown"), *xff("192.0.2.7")], ONE, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "proxies", "addresses"), [case[1:] for case in FORWARDED], ids=[case[0] for case in FORWARDED]
)
def test_forwarded_is_read_from_its_right_end_and_beside_the_other_header(
    headers: Headers, proxies: list[str], addresses: list[str]
) -> None:
    client = client_of(scope_of("10.0.0.1", headers), networks(*proxies))
    assert seen(client) == addresses
    assert not client.direct_from_loopback
    stranger = client_of(scope_of("203.0.113.9", headers), networks(*proxies))
    assert seen(stranger) == ["203.0.113.9"]


@pytest.mark.parametrize(
    ("peer", "headers", "counted"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("10.0.0.1", xff("192.0.2.7"), "192.0.2.7"),
        ("10.0.0.1", fwd('for="[2001:db8:1:2:3::4]"'), "2001:db8:1:2::/64"),
        ("10.0.0.1", [*fwd("for=6.6.6.6"), *xff("192.0.2.7")], "10.0.0.1 (claimed)"),
        ("10.0.0.1", xff("unknown"), "10.0.0.1 (claimed)"),
        ("203.0.113.9", xff("203.0.113.9"), "127.0.0.1 (claimed)"),
        (None, [], "-"),
    ],
)
def test_nobody_gets_a_count_of_their_own_by_a_claim(peer: str | None, headers: Headers, counted: str) -> None:
    assert client_of(scope_of(peer, headers), networks("10.0.0.1")).counted_as == counted


@pytest.mark.parametrize(
    ("peer", "headers", "proxies", "address"), [case[1:] for case in BELIEVED], ids=[case[0] for case in BELIEVED]
)
def test_the_header_is_read_from_its_right_end_through_listed_proxies(
    peer: str, headers: Headers, proxies: list[str], address: str
) -> None:
    client = client_of(scope_of(peer, headers), networks(*proxies))
    assert seen(client) == [address]
    assert not client.direct_from_loopback


@pytest.mark.parametrize(
    "entry", ["", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "010.0.0.1", "256.1.1.1", "[", "[]", "[::1", "\xff"]
)
def test_an_entry_that_a_listed_proxy_garbled_comes_from_nowhere_or_from_where_it_says(entry: str) -> None:
    client = client_of(scope_of("10.0.0.1", xff(f"127.0.0.1, {entry}")), networks(*ONE))
    assert seen(client) in ([], ["::1"])
    assert not client.direct_from_loopback


@pytest.mark.parametrize("claim", ["127.0.0.1", "10.0.0.1", "192.168.1.1, 127.0.0.1", "::1", "garbage", ""])
@pytest.mark.parametrize("proxies", [[], ["10.0.0.1"], ["127.0.0.1"]])
def test_a_peer_that_is_no_listed_proxy_cannot_claim_another_address(claim: str, proxies: list[str]) -> None:
    client = client_of(scope_of("203.0.113.9", xff(claim)), networks(*proxies))
    assert seen(client)[0] == "203.0.113.9"
    assert not client.is_in(networks("127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"))
    assert not client.direct_from_loopback


def test_every_address_must_be_in_the_networks() -> None:
    client = Client((ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("127.0.0.1")), direct_from_loopback=False)
    assert not client.is_in(networks("192.0.2.0/24"))
    assert not client.is_in(networks("127.0.0.1"))
    assert client.is_in(networks("192.0.2.0/24", "127.0.0.1"))
    assert not client.is_in([])


def behind_uvicorn(peer: str, headers: Headers, proxies: Sequence[Network]) -> Client:
    """What comes out when uvicorn, with its defaults, has had the request first."""
    found: list[Client] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(client_of(scope, proxies))

    async def handle() -> None:
        rewriting = ProxyHeadersMiddleware(application)  # type: ignore[arg-type]
        await rewriting(scope_of(peer, headers), None, None)  # type: ignore[arg-type]

    anyio.run(handle)
    return found[0]


REWRITTEN: list[tuple[str, str, Headers, list[str], list[str]]] = [
    ("a listed proxy on this machine", "127.0.0.1", xff("6.6.6.6, 192.0.2.7"), ["127.0.0.1"], ["192.0.2.7"]),
    ("with a port", "127.0.0.1", xff("6.6.6.6, [2001:db8::7]:80"), ["127.0.0.1"], ["2001:db8::7"]),
    ("behind another", "127.0.0.1", xff("6.6.6.6, 192.0.2.7, 10.0.0.2"), TWO, ["192.0.2.7"]),
    ("not listed", "127.0.0.1", xff("192.0.2.7"), [], ["192.0.2.7", "127.0.0.1"]),
    ("another one listed", "127.0.0.1", xff("192.0.2.7"), ["10.0.0.1"], ["192.0.2.7", "127.0.0.1"]),
    ("not listed, claiming itself", "127.0.0.1", xff("127.0.0.1"), [], ["127.0.0.1"]),
    ("garbage", "127.0.0.1", xff("garbage"), ["127.0.0.1"], []),
    (
        "a proxy that writes Forwarded, and a claim",
        "127.0.0.1",
        [*xff("6.6.6.6"), *fwd("for=192.0.2.7")],
        ["127.0.0.1"],
        ["6.6.6.6", "192.0.2.7"],
    ),
    ("a peer that uvicorn does not rewrite", "203.0.113.9", xff("6.6.6.6"), ["127.0.0.1"], ["203.0.113.9"]),
]


@pytest.mark.parametrize(
    ("peer", "headers", "proxies", "addresses"), [case[1:] for case in REWRITTEN], ids=[case[0] for case in REWRITTEN]
)
def test_uvicorn_putting_the_claim_in_the_place_of_the_peer_changes_nothing_for_the_worse(
    peer: str, headers: Headers, proxies: list[str], addresses: list[str]
) -> None:
    client = behind_uvicorn(peer, headers, networks(*proxies))
    assert seen(client) == addresses
    assert not client.direct_from_loopback


@pytest.mark.parametrize("claim", ["10.0.0.1", "192.168.1.5, 10.0.0.1", "192.168.1.5, 10.0.0.1:80, 127.0.0.1"])
def test_a_claim_that_names_a_listed_proxy_does_not_hide_an_unlisted_one_on_this_machine(claim: str) -> None:
    client = behind_uvicorn("127.0.0.1", xff(claim), networks("10.0.0.1"))
    assert "127.0.0.1" in seen(client)
    assert not client.is_in(networks("10.0.0.0/8", "192.168.0.0/16"))


CLAIM = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"), max_size=60)


@given(CLAIM)
def test_no_claim_changes_what_a_listed_proxy_saw(claim: str) -> None:
    client = client_of(scope_of("10.0.0.1", xff(f"{claim}, 192.0.2.7")), networks(*ONE))
    assert seen(client) == ["192.0.2.7"]


@given(CLAIM)
def test_no_claim_makes_a_stranger_somebody_else(claim: str) -> None:
    client = client_of(scope_of("203.0.113.9", xff(claim)), networks(*ONE))
    assert seen(client) == ["203.0.113.9"]


@given(CLAIM)
def test_no_claim_through_uvicorn_and_an_unlisted_proxy_enters_a_network_without_loopback(claim: str) -> None:
    client = behind_uvicorn("127.0.0.1", xff(claim), [])
    assert not client.is_in(networks("128.0.0.0/1", "0.0.0.0/2", "64.0.0.0/3", "96.0.0.0/4", "::/0"))
    assert not client.direct_from_loopback


@given(CLAIM, CLAIM)
def test_no_claim_in_either_header_hides_what_a_listed_proxy_saw(claim: str, other: str) -> None:
    true = ipaddress.ip_address("192.0.2.7")
    for headers in (
        [*fwd(f"{claim}, for=192.0.2.7"), *xff(other)],
        [*xff(f"{claim}, 192.0.2.7"), *fwd(other)],
        [*fwd(claim, 'host="a b";for=192.0.2.7'), *xff(other)],
    ):
        client = client_of(scope_of("10.0.0.1", headers), networks(*ONE))
        assert not client.addresses or true in client.addresses
        assert client.counted_as in {"192.0.2.7", "10.0.0.1 (claimed)"}


@pytest.mark.parametrize(
    "unit", [" ", "\t;", ",", "a=", ",a=", 'a="', ',a=";b=";c="', "for=10.0.0.2,", '"\\', ";;", "="]
)
@pytest.mark.parametrize("end", ["", '"', "x", "\\"])
def test_no_header_keeps_the_service_busy(unit: str, end: str) -> None:
    long = unit * (64_000 // len(unit)) + end  # the most that the server lets through
    assert "192.0.2.7" not in seen(client_of(scope_of("10.0.0.1", fwd(long)), networks(*TWO)))


@pytest.mark.parametrize(("write", "entry"), [(xff, "10.0.0.2"), (fwd, "for=10.0.0.2")])
def test_nobody_comes_through_so_many_proxies(write: Callable[[str], Headers], entry: str) -> None:
    some = client_of(scope_of("10.0.0.1", write(",".join([entry] * 30))), networks("10.0.0.0/8"))
    many = client_of(scope_of("10.0.0.1", write(",".join([entry] * 40))), networks("10.0.0.0/8"))
    assert seen(some) == ["10.0.0.2"]
    assert seen(many) == []
