"""What HTTP/1.1 asks of a proxy: which requests have two meanings, which headers stay here, what the guard itself says.

The sections are those of RFC 9110 and RFC 9112.
"""

import base64
import binascii
from collections.abc import Iterator
from http import HTTPStatus

import h11

from homelab_ai.crawling.egress.targets import Target

BLOCKED = "X-Homelab-Blocked"
"""Header of an answer by which the guard itself refuses, with the reason."""
FAILED = "X-Homelab-Failed"
"""Header of an answer that the guard gives because there is none to pass on, with the reason."""

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT"})
HEAD_BYTES = 64 * 1024
"""Most of a request's or an answer's line and headers."""
_HEADERS = 200
"""Most headers of a request."""

_OF_THIS_CONNECTION = frozenset(
    (
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),
        *(b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info"),
    )
)
"""Headers that are not passed on (RFC 9110 section 7.6.1)."""
_OURS = frozenset({BLOCKED.lower().encode(), FAILED.lower().encode()})
"""Headers that only the guard itself may send."""

Headers = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """A request that is not understood, or that two servers could understand differently."""

    def __init__(self, reason: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.status = status


def check(request: h11.Request) -> None:
    """Refuse what h11 lets pass. Raises `Malformed`."""
    headers = list(request.headers)
    if len(headers) > _HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
        raise Malformed("the headers are too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    if request.http_version not in {b"1.0", b"1.1"}:
        raise Malformed("this is not HTTP/1.1")
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        raise Malformed("the request has two lengths")  # section 6.1 of RFC 9112
    if request.method == b"CONNECT" and (b"transfer-encoding" in names or _value(headers, b"content-length") != b"0"):
        raise Malformed("a request for a tunnel has no body")


def _value(headers: Headers, wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b"0")


def credentials(request: h11.Request) -> tuple[str, str] | None:
    """Return the user name and password that the proxy is shown; None unless there is exactly one of each."""
    shown = [value for name, value in request.headers if name == b"proxy-authorization"]
    if len(shown) != 1:
        return None
    scheme, _, encoded = shown[0].partition(b" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    username, colon, password = text.partition(":")
    return (username, password) if scheme.lower() == b"basic" and colon else None


def forwarded(request: h11.Request, target: Target) -> h11.Request:
    """Return the request as its server is to see it: origin-form, and nothing that was meant for the proxy."""
    headers = [(b"Host", target.authority)]
    for name, value in _end_to_end(request):
        if name.lower() != b"host":
            headers.append((name, value))
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    headers.append((b"Connection", b"close"))
    return h11.Request(method=request.method, target=target.path, headers=headers)


def returned(response: h11.Response) -> h11.Response:
    """Return the answer as the client is to see it. How its body ends is left to h11, but for a known length."""
    in_chunks = any(name == b"transfer-encoding" for name, _ in response.headers)
    headers = [
        (name, value)
        for name, value in _end_to_end(response)
        # Section 6.3 of RFC 9112: of two lengths, that of the chunks is true.
        if not (in_chunks and name.lower() == b"content-length")
    ]
    return h11.Response(status_code=response.status_code, headers=headers, reason=response.reason)


def _end_to_end(message: h11.Request | h11.Response) -> Iterator[tuple[bytes, bytes]]:
    kept_here = set(_OF_THIS_CONNECTION | _OURS)
    for name, value in message.headers:
        if name == b"connection":
            kept_here.update(option.strip().lower() for option in value.split(b","))
    kept_here.discard(b"content-length")  # nobody may take the length from a message by naming it
    for name, value in message.headers.raw_items():
        if name.lower() not in kept_here:
            yield name, value


def own(status: int, mark: str, reason: str, *headers: tuple[str, str]) -> tuple[h11.Response, h11.Data]:
    """Return an answer of the guard itself. The `mark`, `BLOCKED` or `FAILED`, keeps it from being taken for a page."""
    body = f"{reason}\n".encode()
    own_headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        # Not "no-store", which none of them needs: Chromium never finishes such an answer if nobody reads its body.
        (mark, reason),
        *headers,
    ]
    return (
        h11.Response(status_code=status, headers=own_headers, reason=HTTPStatus(status).phrase.encode()),
        h11.Data(data=body),
    )
