"""Frames over a real socket pair: what one end writes, the other reads, and an end in the middle is noticed."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest

from homelab_ai.models.hosts import wire
from homelab_ai.models.hosts.wire import Frame

SEVERAL_MB = bytes(range(256)) * 16 * 1024  # more than any socket buffer takes at once
FRAMES: dict[str, Frame] = {
    "empty": ({}, b""),
    "header only": ({"type": "ready", "engine": {"dimensions": 384}}, b""),
    "one byte": ({"type": "result"}, b"\0"),
    "names of every alphabet": ({"ключ": "\0\n ½ 😀"}, "\0\n ½ 😀".encode()),
    "a body like a frame": ({}, struct.pack("!IQ", 2, 2**63) + b"{}"),
    "a large header": ({"reason": "x" * 1_000_000}, b"y"),
    "several MB": ({"shape": [4096, 256]}, SEVERAL_MB),
}
every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    service, host = socket.socketpair()
    with service, host:
        yield service, host


@contextlib.asynccontextmanager
async def streams(service: socket.socket) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(sock=service)
    yield reader, writer
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.anyio
@every_frame
async def test_what_the_service_writes_the_host_reads(pair: Pair, frame: Frame) -> None:
    async with streams(pair[0]) as (_, writer):
        received = asyncio.create_task(asyncio.to_thread(wire.receive, pair[1]))
        writer.writelines(wire.pack(*frame))
        await writer.drain()
        assert await received == frame


@pytest.mark.anyio
@every_frame
async def test_what_the_host_writes_the_service_reads(pair: Pair, frame: Frame) -> None:
    async with streams(pair[0]) as (reader, _):
        sent = asyncio.create_task(asyncio.to_thread(wire.send, pair[1], *frame))
        assert await wire.read(reader) == frame
        await sent


@pytest.mark.anyio
async def test_frames_come_one_after_the_other_both_ways_at_once(pair: Pair) -> None:
    def host() -> list[Frame]:
        received = []
        for frame in FRAMES.values():
            wire.send(pair[1], *frame)
            received.append(wire.receive(pair[1]))
        return received

    async with streams(pair[0]) as (reader, writer):
        at_host = asyncio.create_task(asyncio.to_thread(host))
        for frame in FRAMES.values():
            writer.writelines(wire.pack(*frame))
        assert [await wire.read(reader) for _ in FRAMES] == [*FRAMES.values()]
        assert await at_host == [*FRAMES.values()]


def test_a_body_may_be_a_view_of_bytes(pair: Pair) -> None:
    view = memoryview(b"..abcdef..")[2:-2]
    wire.send(pair[0], {}, view)
    assert wire.receive(pair[1]) == ({}, b"abcdef")
    assert b"".join(wire.pack({}, view)) == b"".join(wire.pack({}, b"abcdef"))


def test_a_body_is_not_copied() -> None:
    assert wire.pack({}, SEVERAL_MB)[-1] is SEVERAL_MB


WHOLE = b"".join(wire.pack({"type": "result"}, b"0123456789"))
CUTS = [0, 1, struct.calcsize("!IQ") - 1, struct.calcsize("!IQ"), len(WHOLE) - 10, len(WHOLE) - 1]


@pytest.mark.parametrize("cut", CUTS)
def test_the_host_notices_the_end_wherever_it_comes(pair: Pair, cut: int) -> None:
    pair[0].sendall(WHOLE[:cut])
    pair[0].close()
    with pytest.raises(EOFError):
        wire.receive(pair[1])


@pytest.mark.anyio
@pytest.mark.parametrize("cut", CUTS)
async def test_the_service_notices_the_end_wherever_it_comes(pair: Pair, cut: int) -> None:
    async with streams(pair[0]) as (reader, _):
        pair[1].sendall(WHOLE[:cut])
        pair[1].close()
        with pytest.raises(asyncio.IncompleteReadError):
            await wire.read(reader)


def test_a_whole_frame_before_the_end_is_still_read(pair: Pair) -> None:
    pair[0].sendall(WHOLE)
    pair[0].close()
    assert wire.receive(pair[1]) == ({"type": "result"}, b"0123456789")
    with pytest.raises(EOFError):
        wire.receive(pair[1])


def test_a_frame_may_arrive_byte_by_byte(pair: Pair) -> None:
    class Trickle(socket.socket):
        def recv_into(self, buffer: memoryview, *_: int) -> int:  # type: ignore[override]
            return super().recv_into(buffer, 1)

    pair[0].sendall(WHOLE)
    with Trickle(fileno=pair[1].detach()) as slow:
        assert wire.receive(slow) == ({"type": "result"}, b"0123456789")
