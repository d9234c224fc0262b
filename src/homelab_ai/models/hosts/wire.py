"""Frames between the service and a model host: a small JSON header and a body of raw bytes.

Layout (network byte order): `u32 header length | u64 body length | header | body`. Both ends of the socket pair are
ours and of one version, so there is no negotiation; a vector crosses as the bytes it has in memory.
"""

import asyncio
import socket
import struct
from typing import Any

import orjson

_PREFIX = struct.Struct("!IQ")

Header = dict[str, Any]
Frame = tuple[Header, bytes]


def pack(header: Header, body: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """Return the buffers to write, in order. The body is not copied."""
    head, size = orjson.dumps(header), memoryview(body).nbytes
    return [_PREFIX.pack(len(head), size) + head, *([body] if size else [])]


async def read(reader: asyncio.StreamReader) -> Frame:
    """Read one frame on the service's side. Raises `asyncio.IncompleteReadError` at the end of the stream."""
    header_length, body_length = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
    header = orjson.loads(await reader.readexactly(header_length))
    return header, await reader.readexactly(body_length)


def receive(channel: socket.socket) -> Frame:
    """Read one frame on the host's side, blocking. Raises `EOFError` when the service has gone."""
    header_length, body_length = _PREFIX.unpack(_receive_exactly(channel, _PREFIX.size))
    header = orjson.loads(_receive_exactly(channel, header_length))
    return header, bytes(_receive_exactly(channel, body_length))


def send(channel: socket.socket, header: Header, body: bytes | memoryview = b"") -> None:
    """Write one frame on the host's side, blocking."""
    for buffer in pack(header, body):
        channel.sendall(buffer)


def _receive_exactly(channel: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    received = 0
    while received < size:
        count = channel.recv_into(view[received:])
        if not count:
            raise EOFError
        received += count
    return buffer
