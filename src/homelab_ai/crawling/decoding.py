"""Bodies as they come over HTTP: decompressed bit by bit, so that a bomb never unfolds beyond its limit."""

import zlib
from typing import Protocol

ACCEPTED = "gzip, deflate"
"""What `decoder_of` knows. The names are those of RFC 9110 section 8.4.1."""

_GZIP = 16 + zlib.MAX_WBITS
_MAX_LAYERS = 1
"""No server has a reason for more, and what unfolds to nothing layer after layer is never over a limit."""


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
        """Return at most `limit` bytes of what is in there; the rest is given up. Raises `Damaged`."""
        ...


def decoder_of(coding: str) -> Decoder:
    """Return what decodes a body with this `Content-Encoding`. Raises `UnknownCoding`."""
    names = [name for part in coding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if len(names) > _MAX_LAYERS:
        raise UnknownCoding(f"{len(names)} layers")
    decoder: Decoder = _Identity()
    for name in names:  # the last was applied last: it is the outermost
        decoder = _Layer(name, decoder)
    return decoder


class _Identity:
    finished = True

    def decode(self, data: bytes, limit: int) -> bytes:
        return data[:limit]


class _Layer:
    """One coding around another."""

    def __init__(self, name: str, inner: Decoder) -> None:
        if name not in {"gzip", "x-gzip", "deflate"}:
            raise UnknownCoding(name)
        self._deflate = name == "deflate"
        self._inflater = None if self._deflate else zlib.decompressobj(_GZIP)
        self._inner = inner
        self._begun = False

    @property
    def finished(self) -> bool:
        return not self._begun or (self._inflater is not None and self._inflater.eof and self._inner.finished)

    def decode(self, data: bytes, limit: int) -> bytes:
        if not data:
            return b""
        self._begun = True
        if self._inflater is None:
            # Called deflate, it is meant to be in zlib's format; some servers send it bare (RFC 9110 section 8.4.1.2).
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS)
        decoded = bytearray()
        try:
            # Over what an inner coding makes of it, the limit is kept too: there, no more is unfolded than it takes.
            while data and len(decoded) < limit and not self._inflater.eof:
                decoded += self._inner.decode(self._inflater.decompress(data, limit), limit - len(decoded))
                data = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise Damaged from error
        return bytes(decoded)
