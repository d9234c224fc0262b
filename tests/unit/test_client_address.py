"""Where a request comes from: what of the headers is believed, and from whom."""

import ipaddress
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from homelab_ai.api.client import Client, Network, client_of

Headers = Sequence[tuple[str, str]]


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
    ("Forwarded is not read", "10.0.0.1", [("Forwarded", "for=6.6.6.6"), *xff("192.0.2.7")], ONE, "192.0.2.7"),
    ("X-Real-IP is not read", "10.0.0.1", [("X-Real-IP", "6.6.6.6"), *xff("192.0.2.7")], ONE, "192.0.2.7"),
]


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
