"""The service's end of what it says to a model host: frames over a socket pair, for the event loop."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Self

from homelab_ai.models.hosts import wire

_BUFFER = 2**20  # bytes; the vectors of one run, in one piece


@dataclass(frozen=True)
class Channel:
    """The service's end of a socket pair. Every failure is an `OSError`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Take the socket over."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_BUFFER))

    async def send(self, frame: list[bytes | memoryview]) -> None:
        """Write one frame whole, whoever else writes at the same time."""
        if self.writer.is_closing():  # uvloop raises a RuntimeError of its own
            raise ConnectionResetError("the channel is closed")
        self.writer.writelines(frame)
        await self.writer.drain()

    async def read(self) -> wire.Frame:
        """Read the next frame."""
        try:
            return await wire.read(self.reader)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the host closed its channel") from error

    def close(self) -> None:
        """Close it, which ends a host."""
        self.writer.close()


def socket_pair(ours: contextlib.ExitStack, its: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return both ends, the first to be closed with the one stack and the second with the other."""
    our_end, its_end = socket.socketpair()
    return ours.enter_context(our_end), its.enter_context(its_end)
