"""What is asked for: the address of a page or an image, and headers for a page."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from homelab_ai.errors import InvalidRequest

_LONGEST = 8192
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_MOST_CHARACTERS = 16_000
_SET_HERE = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "te", "trailer", "upgrade"}
    | {"keep-alive", "expect", "proxy-authorization", "proxy-connection", "origin", "referer"}
)
"""Headers that would make another message of the request, are meant for the guard, or that no browser sends."""


def checked(url: str, field: str = "url") -> str:
    """Return an address as it is fetched, without its fragment. Raises `InvalidRequest` that names the field.

    Whether it may be reached is the guard's to say, for this and for whatever it leads to.
    """
    url = url.strip()
    if len(url) > _LONGEST:
        raise InvalidRequest.at(field, f"is longer than {_LONGEST} characters")
    if not url.isprintable() or " " in url:
        raise InvalidRequest.at(field, "holds a space or something unseen; write %20 and the like")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest.at(field, "is not a web address") from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise InvalidRequest.at(field, "does not begin with http:// or https://")
    if not host:
        raise InvalidRequest.at(field, "names no host, such as example.com")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest.at(field, "holds a user name or a password; send a page's in headers (Authorization)")
    try:
        httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        raise InvalidRequest.at(field, "is not a web address") from None
    return url.partition("#")[0]


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for headers that cannot be sent along."""
    if sum(len(name) + len(value) for name, value in headers.items()) > _MOST_CHARACTERS:
        raise InvalidRequest.at("headers", f"hold more than {_MOST_CHARACTERS} characters")
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _SET_HERE or name.lower().startswith("sec-"):
            raise InvalidRequest.at("headers", f"{name[:50]!r} cannot be set")
        if not _VALUE.fullmatch(value):
            raise InvalidRequest.at("headers", f"the value of {name} is not plain ASCII on one line")
