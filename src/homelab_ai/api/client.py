"""Where a request comes from: the client's address, seen through the proxies that the operator has named.

`X-Forwarded-For` and `Forwarded` (RFC 7239) are read from their right end: each proxy appends the address that it saw,
so what a listed proxy appended is true and everything to the left of it is the client's own claim.

Where both come, nobody here knows which of them the proxies write; the other one would be the client's claim from end
to end. So the client is taken to be at *both* addresses, and is only in a network that holds both. The proxy that the
client connected to has written at least one of the two, and from that header the client's true address is read,
whatever it claims to the left: so the true address is always among the two, and a claim can only add to it. A header
that ends at a listed proxy, with nobody before, tells nothing of the client, and the other one is believed.
(A listed proxy that writes neither header leaves both to the client: such a one must not be listed.)
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from homelab_ai.api import forwarded

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_MOST_ENTRIES = 32
"""Of the forwarding headers. No chain of proxies is so long, and each entry costs time before anybody is let in."""
_LOOPBACK = ipaddress.ip_address("127.0.0.1")
_IPV6_HOME = 64
"""Bits of an IPv6 address that tell one home from another; the rest a home may choose, for each request anew."""


@dataclass(frozen=True)
class Client:
    """The origin of one request."""

    addresses: tuple[Address, ...]
    """Where it may have come from; to be allowed, each of them must be. Empty when there is no telling."""
    direct_from_loopback: bool
    """A program on this machine speaks for itself, without any proxy in between."""
    peer: Address | None = None
    """Who is connected. Nobody can make that up."""

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses)) or "-"

    @property
    def counted_as(self) -> str:
        """The name under which its requests are counted: its address, or its IPv6 network.

        Clients that may have a hand in what their address seems to be are counted together, by their peer: nobody can
        get a count of their own by a claim, nor use up another's.
        """
        if len(self.addresses) == 1:
            return _home_of(self.addresses[0])
        return f"{_home_of(self.peer)} (claimed)" if self.peer else "-"

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
        return Client((peer,) if peer else (), direct_from_loopback=bool(peer and peer.is_loopback), peer=peer)
    chained = [line for name in ("X-Forwarded-For", "Forwarded") for line in headers.getlist(name)]
    if sum(line.count(",") for line in chained) > _MOST_ENTRIES:
        return Client((), direct_from_loopback=False, peer=peer)
    entries = [entry for line in headers.getlist("X-Forwarded-For") for entry in line.split(",")]
    doubtful, loopback_listed = _may_be_a_claim(peer, entries), _is_in(_LOOPBACK, trusted_proxies)
    nearest = _LOOPBACK if doubtful and loopback_listed else peer
    read = [reversed(entries), forwarded.nodes(headers.getlist("Forwarded"))]
    addresses = _origins(nearest, read, trusted_proxies)
    if doubtful and addresses and not loopback_listed:
        addresses += (_LOOPBACK,)
    return Client(addresses, direct_from_loopback=False, peer=_LOOPBACK if doubtful else peer)


def _home_of(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_HOME), strict=False))
    return str(address)


def _origins(
    peer: Address | None, headers: Iterable[Iterator[str]], trusted_proxies: Sequence[Network]
) -> tuple[Address, ...]:
    """Return where the request may have come from: what each header says, entry by entry from its right end."""
    told, silent = [], [peer]
    for entries in headers:
        address = peer
        while address and _is_in(address, trusted_proxies) and (entry := next(entries, None)) is not None:
            address = _address(entry)
        if not address:
            return ()
        if not _is_in(address, trusted_proxies):
            told.append(address)
        elif address != peer:  # the last proxy that is named, with nobody before it
            silent = [each for each in silent if each != peer] + [address]
    return tuple(dict.fromkeys(each for each in told or silent if each))


def _may_be_a_claim(peer: Address | None, entries: Sequence[str]) -> bool:
    """Whether the peer may be what `X-Forwarded-For` says rather than who is connected.

    uvicorn, by default, puts the last address of the header that is not 127.0.0.1 in the place of a peer that is. From
    here this cannot be told from a peer that has this address, so both are taken into account. (`server.Edge` takes
    that default away, but cannot under `--log-level trace`, nor where another server than uvicorn does the same.)
    """
    claim = next((address for address in map(_address, reversed(entries)) if address != _LOOPBACK), None)
    return claim is not None and peer == claim


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
