"""Where a request comes from: the client's address, seen through the proxies that the operator has named.

`X-Forwarded-For` is read from its right end: each proxy appends the address that it saw, so what a listed proxy
appended is true and everything to the left of it is the client's own claim.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_LOOPBACK = ipaddress.ip_address("127.0.0.1")


@dataclass(frozen=True)
class Client:
    """The origin of one request."""

    addresses: tuple[Address, ...]
    """Where it may have come from; to be allowed, each of them must be. Empty when there is no telling."""
    direct_from_loopback: bool
    """A program on this machine speaks for itself, without any proxy in between."""

    def __str__(self) -> str:
        return str(self.addresses[0]) if self.addresses else "-"

    def is_in(self, networks: Sequence[Network]) -> bool:
        """Whether it certainly comes from one of these networks."""
        return bool(self.addresses) and all(
            any(address in network for network in networks) for address in self.addresses
        )


def client_of(scope: Scope, trusted_proxies: Sequence[Network]) -> Client:
    """Return where the request of this ASGI scope comes from."""
    headers = Headers(scope=scope)
    peer = _address((scope.get("client") or [""])[0])
    if not any(name in headers for name in _FORWARDING_HEADERS):
        return Client((peer,) if peer else (), direct_from_loopback=bool(peer and peer.is_loopback))
    forwarded = [entry for line in headers.getlist("X-Forwarded-For") for entry in line.split(",")]
    doubtful = not _is_in(_LOOPBACK, trusted_proxies) and _may_be_a_claim(peer, forwarded)
    address = peer
    while address and forwarded and _is_in(address, trusted_proxies):
        address = _address(forwarded.pop())
    if not address:
        return Client((), direct_from_loopback=False)
    return Client((address, _LOOPBACK) if doubtful else (address,), direct_from_loopback=False)


def _may_be_a_claim(peer: Address | None, forwarded: Sequence[str]) -> bool:
    """Whether the peer may be what the header says rather than who is connected.

    uvicorn, by default, puts the last address of the header that is not 127.0.0.1 in the place of a peer that is. From
    here this cannot be told from a peer that has this address, so both are taken into account.
    """
    claims = [address for address in map(_address, forwarded) if address != _LOOPBACK]
    return bool(claims) and peer == claims[-1]


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """`192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`, as proxies write them."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 clients as ::ffff:192.0.2.1; the operator lists them as 192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address
