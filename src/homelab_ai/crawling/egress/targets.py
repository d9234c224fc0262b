"""What a client asks the guard for: the host, however it is spelled, the port, and the path.

A host is read as browsers read it (https://url.spec.whatwg.org/#host-parsing), so that `0x7f.1` is 127.0.0.1 here, too,
and not a name. But what browsers mend before they ask a proxy (percent signs, letters beyond ASCII, credentials) is not
mended here: who sends it is no browser, and is refused.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from homelab_ai.crawling.egress.addresses import Address

_URL = re.compile(rb"http://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(rb"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?")
_LABEL = r"[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MOST = 253
_NUMBER = re.compile(r"0x(?P<hex>[0-9a-f]*)|0(?P<octal>[0-7]+)|(?P<decimal>0|[1-9][0-9]*)")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


class Refused(Exception):
    """What is asked for is not passed on. The message is the reason, for the caller."""


@dataclass(frozen=True)
class Target:
    """Where a request is to go."""

    host: str
    """In lower case, without a dot at the end; an address as `ipaddress` writes it."""
    port: int
    address: Address | None = None
    """If the host is one."""
    path: bytes = b"/"
    """With the query. Empty for a tunnel."""

    @classmethod
    def of_url(cls, url: bytes) -> Self:
        """Read the absolute form of a target. Raises `Refused`."""
        match = _URL.fullmatch(url)
        if not match:
            raise Refused("only http is passed on, and https through a tunnel")
        path = match[2] if match[2].startswith(b"/") else b"/" + match[2]
        return cls(*_authority(match[1], default_port=80), path)

    @classmethod
    def of_authority(cls, authority: bytes) -> Self:
        """Read the authority form, `host:port`. Raises `Refused`."""
        return cls(*_authority(authority, default_port=None), b"")

    @property
    def authority(self) -> bytes:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return (host if self.port == 80 else f"{host}:{self.port}").encode()  # noqa: PLR2004 - of http


def canonical(host: str) -> str:
    """Return the one spelling of a host that an operator wrote, as `Target.host` has it; odd ones as they are."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(bare))
    except ValueError:
        return host.lower().removesuffix(".")


def _authority(text: bytes, default_port: int | None) -> tuple[str, int, Address | None]:
    if b"@" in text:
        raise Refused("credentials in the address are not passed on")
    match = _AUTHORITY.fullmatch(text)
    port = int(match[2]) if match and match[2] else default_port
    if not match or not port or port > 65535:  # noqa: PLR2004 - the last there is
        raise Refused("its host or port is not written as it should be")
    host = match[1].decode("latin-1").lower()
    address = _bracketed(host) if host.startswith("[") else _unbracketed(host)
    return str(address) if address else host.removesuffix("."), port, address


def _bracketed(host: str) -> IPv6Address:
    try:
        address = IPv6Address(host[1:-1])
    except ValueError:
        raise Refused("its IPv6 address is not written as it should be") from None
    if address.scope_id is not None:
        raise Refused("an IPv6 address with a zone is not passed on")
    return address


def _unbracketed(host: str) -> IPv4Address | None:
    """Return the address that the host is, None if it is a name."""
    name = host.removesuffix(".")
    if len(name) > _MOST or not _NAME.fullmatch(name):
        raise Refused("its host is not written as it should be")
    if not _ENDS_IN_A_NUMBER.fullmatch(name):
        return None
    numbers = [_number(part) for part in name.split(".")]
    *first, last = numbers
    if len(numbers) > 4 or any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):  # noqa: PLR2004 - bytes of an address
        raise Refused("its IPv4 address is not written as it should be")
    return IPv4Address(sum(number << 8 * (3 - place) for place, number in enumerate(first)) + last)


def _number(part: str) -> int:
    match = _NUMBER.fullmatch(part)
    if not match:
        raise Refused("its IPv4 address is not written as it should be")
    if match["decimal"]:
        return int(match["decimal"])
    return int(match["octal"], 8) if match["octal"] else int(match["hex"] or "0", 16)
