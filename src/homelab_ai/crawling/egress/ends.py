"""One end of an exchange: a connection, and what h11 makes of it."""

import contextlib
from typing import TYPE_CHECKING, Any

import h11

from homelab_ai.crawling.egress.finding import CHUNK, Stream
from homelab_ai.crawling.egress.messages import HEAD_BYTES
from homelab_ai.crawling.egress.patience import Patience
from homelab_ai.models.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

_LINGER_SECONDS = 2
"""How long the last bytes of a connection may take to be read by the other side."""


class End:
    """A connection that is read from and written to as bytes, or as HTTP."""

    def __init__(self, stream: Stream, role: type[h11.SERVER] | type[h11.CLIENT]) -> None:
        self._reader, self.writer = stream
        self.http = h11.Connection(role, HEAD_BYTES)
        self.take: Callable[[int], int] = lambda count: count
        """Asked how many of so many bytes may be passed on, and before each reading whether any may at all."""

    async def receive(self) -> bytes:
        """Return what has come; nothing at the end. Raises `OSError`, and what `take` raises."""
        self.take(0)
        data = await self._reader.read(CHUNK)
        return data[: self.take(len(data))]

    async def event(self) -> Any:
        """Return h11's next event. Raises `h11.RemoteProtocolError`, and what `receive` raises."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.receive())
        return event

    async def write(self, data: bytes) -> None:
        """Pass bytes on, as fast as the other side reads. Raises `OSError`."""
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, *events: h11.Event) -> None:
        """Write events of HTTP. Raises `OSError`."""
        await self.write(b"".join(self.http.send(event) or b"" for event in events))

    def finish(self) -> None:
        """Say that nothing more is coming from this side."""
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof() and not self.writer.is_closing():
                self.writer.write_eof()

    async def close(self, clock: Clock) -> None:
        """Close the connection when what is written has been read, or has been left unread for too long.

        Where the other side is in the middle of saying something, it is heard out first: a connection that is closed
        with bytes unread is reset, and the answer to them lost.
        """
        try:
            with contextlib.suppress(OSError):  # TimeoutError is one
                async with Patience(clock, _LINGER_SECONDS):
                    if self.http.their_state in {h11.SEND_BODY, h11.ERROR}:
                        self.finish()
                        while await self._reader.read(CHUNK):
                            pass
                    self.writer.close()
                    await self.writer.wait_closed()
        finally:
            self.writer.transport.abort()
