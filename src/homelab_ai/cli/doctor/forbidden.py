"""Addresses of pages that no service may fetch unless its operator has opened them, however they are spelled.

They are written down here once more, and not made from what the guard itself goes by: what it has forgotten is to be
found.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from homelab_ai.crawling.egress.addresses import Address

LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

_NO_HOST = IPv4Address(0)
_CREDENTIALS = "/latest/meta-data/"
_METADATA = IPv4Address("169.254.169.254")
_OTHER_METADATA = tuple(
    map(ip_address, ("169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)
_ROUTERS = tuple(map(ip_address, ("10.0.0.1", "172.16.0.1", "192.168.0.1", "192.168.1.1", "192.168.178.1")))
"""As they are when they are bought."""
_NOT_PUBLIC = tuple(
    map(
        ip_address,
        (
            *("100.64.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
            *("192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
            *("fd00::1", "fe80::1", "fec0::1", "ff02::1"),
            *("64:ff9b:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:db8::1", "3fff::1"),
        ),
    )
)
_NOT_OF_THE_WEB = (
    *("file:///etc/passwd", "view-source:http://127.0.0.1/", "chrome://version/", "data:text/html,a"),
    *("javascript:1", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "about:blank", "//127.0.0.1/", "http:///127.0.0.1/"),
    *("http://user:password@127.0.0.1/", "http://127.0.0.1\\@example.com/", "http://example.com\\@127.0.0.1/"),
    *("http://127.0.0.1%2f@example.com/", "http://127.0.0.1 .example.com/"),
)
_NAMES = (
    *("metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"),
    *("localtest.me", "127.0.0.1.nip.io", "192.168.1.1.nip.io", "169.254.169.254.nip.io"),
)
"""That lead home, or to a cloud's credentials. To look them up is to ask a server of names."""


@dataclass(frozen=True)
class Forbidden:
    """One address of a page."""

    subject: str
    url: str
    address: Address | None = None
    """Where it leads, if that is known: what would open it."""
    host: str = ""
    """If it is a name."""
    never_opened: bool = False
    """Whether it is refused whatever the operator opens."""
    of_the_service: bool = False
    """Whether it leads to the machine of the service itself, which no network opens but one of this one address."""


@dataclass(frozen=True)
class Surroundings:
    """Where the doctor is, and so what is to be asked for."""

    service: Iterable[str]
    """Where the service can be found on its own machine (`host:port`)."""
    own: Iterable[Address]
    """Of this machine in its networks."""
    own_of_the_service: bool
    """Whether the service is on this machine."""
    gateways: Iterable[Address]
    ports: Mapping[Address, int]
    """On which it would be seen who comes."""
    online: bool
    """Whether names may be asked for that only the internet knows."""


def everything(around: Surroundings) -> Iterator[Forbidden]:
    """Yield all of them, subject by subject."""
    yield from _loopback(around.ports)
    for each in around.own:
        url = _page(host_of(each), around.ports.get(each, 80))
        yield Forbidden("this machine", url, each, of_the_service=around.own_of_the_service)
    for place in around.service:
        yield Forbidden("the service itself", f"http://{place}/health", never_opened=True)
    for each in dict.fromkeys((*around.gateways, *_ROUTERS)):
        yield Forbidden("the home network", _page(host_of(each)), each)
        yield Forbidden("the home network", f"https://{host_of(each)}/", each)
    for each in _NOT_PUBLIC:
        yield Forbidden("what is not public", _page(host_of(each)), each)
    for host in spellings(_METADATA):
        yield Forbidden("a cloud's credentials", f"http://{host}{_CREDENTIALS}", _METADATA, never_opened=True)
    for each in _OTHER_METADATA:
        yield Forbidden("a cloud's credentials", f"http://{host_of(each)}{_CREDENTIALS}", each, never_opened=True)
    for url in _NOT_OF_THE_WEB:
        yield Forbidden("what is no web page", url, never_opened=True)
    for name in _NAMES if around.online else ():
        yield Forbidden("names that lead home", _page(name), host=name)


def _loopback(ports: Mapping[Address, int]) -> Iterator[Forbidden]:
    here, here_6 = LOOPBACK
    port = ports.get(here, 80)
    for host in (*spellings(here), "127.255.255.254"):
        yield Forbidden("loopback", _page(host, port), here, of_the_service=True)
    for host in ("localhost", "LOCALHOST."):
        yield Forbidden("loopback", _page(host, port), here, "localhost", of_the_service=True)
    # Linux takes the address of no host for loopback.
    for host, address in (("0.0.0.0", _NO_HOST), ("0", _NO_HOST), ("[::]", IPv6Address(0))):  # noqa: S104 - to be refused
        yield Forbidden("loopback", _page(host, port), address, of_the_service=True)
    yield Forbidden("loopback", _page("[::1]", ports.get(here_6, 80)), here_6, of_the_service=True)


def spellings(address: IPv4Address) -> list[str]:
    """Return the ways in which browsers, or other programs, let a host be written that is this address."""
    first, *rest = address.packed
    others = int.from_bytes(rest)
    wide = {ord(digit): chr(0xFF10 + int(digit)) for digit in "0123456789"}
    escaped = "".join(f"%{ord(character):x}" if character.isdigit() else character for character in str(address))
    high, low = int(address) >> 16, int(address) & 0xFFFF
    return [
        str(address),
        f"{address}.",
        str(int(address)),
        hex(int(address)),
        oct(int(address)).replace("o", ""),
        f"{first}.{others}",
        f"{first:#x}.{others:#x}",
        ".".join(f"0{byte:o}" for byte in address.packed),
        str(address).replace(".", "\u3002"),
        str(address).translate(wide),
        escaped,
        *(f"[{IPv6Address(prefix + address.packed)}]" for prefix in (_MAPPED, _TRANSLATED, _NAT64, bytes(12))),
        f"[::ffff:{address}]",
        f"[2002:{high:x}:{low:x}::1]",
    ]


_MAPPED = IPv6Address("::ffff:0:0").packed[:12]
_TRANSLATED = IPv6Address("::ffff:0:0:0").packed[:12]
_NAT64 = IPv6Address("64:ff9b::").packed[:12]


def gateways(route: Path = Path("/proc/net/route")) -> list[Address]:
    """Return the routers of this machine's networks (proc_net(5); the figures are in the processor's order)."""
    try:
        rows = [line.split() for line in route.read_text().splitlines()[1:]]
    except OSError:  # not Linux
        return []
    found = (IPv4Address(bytes.fromhex(row[2])[::-1]) for row in rows if len(row) > 2)  # noqa: PLR2004 - the gateway is the third
    return [address for address in dict.fromkeys(found) if int(address)]


def host_of(address: Address) -> str:
    """As it is written in the address of a page."""
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)


def _page(host: str, port: int = 80) -> str:
    return f"http://{host}/" if port == 80 else f"http://{host}:{port}/"  # noqa: PLR2004 - of http
