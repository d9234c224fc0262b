"""Bodies as they come over HTTP: decompressed bit by bit, so that a bomb never unfolds beyond its limit."""

import zlib
from typing import Protocol

ACCEPTED = "gzip, deflate"
"""What `decoder_of` knows. The names are those of RFC 9110 section 8.4.1."""

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Of each coding, what zlib is to expect."""


class UnknownCoding(Exception):
    """The body is coded in a way that was not asked for. The text is the name of the coding."""


class Damaged(Exception):
    """The body is not what its coding should be."""


class Decoder(Protocol):
    """Decodes one body."""

    @property
    def finished(self) -> bool:
        """Whether what has come so far is a whole."""
        ...

    def decode(self, data: bytes, limit: int) -> bytes:
        """Return at most `limit` bytes, one or more, of what is in there; the rest is given up. Raises `Damaged`."""
        ...


def decoder_of(coding: str) -> Decoder:
    """Return what decodes a body with this `Content-Encoding`. Raises `UnknownCoding`.

    One coding around another is unknown, too: no server has a reason for it, and what unfolds to nothing layer after
    layer is never over a limit.
    """
    names = [name for part in coding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not names:
        return _Identity()
    if len(names) > 1 or names[0] not in _WINDOWS:
        raise UnknownCoding(", ".join(names))
    return _Inflating(_WINDOWS[names[0]])


class _Identity:
    finished = True

    def decode(self, data: bytes, limit: int) -> bytes:
        return data[:limit]


class _Inflating:
    def __init__(self, window: int) -> None:
        self._window = window
        self._inflater: zlib._Decompress | None = None

    @property
    def finished(self) -> bool:
        return self._inflater is None or self._inflater.eof

    def decode(self, data: bytes, limit: int) -> bytes:
        if not data:
            return b""
        if self._inflater is None:
            if self._window == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
                # Called deflate, it is meant to be in zlib's format; some servers send it bare (section 8.4.1.2).
                self._window = -zlib.MAX_WBITS
            self._inflater = zlib.decompressobj(self._window)
        if self._inflater.eof:
            return b""  # zlib would keep what follows
        try:
            return self._inflater.decompress(data, limit)
        except zlib.error as error:
            raise Damaged from error
