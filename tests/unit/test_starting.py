"""Nothing is left of a process whose start fails or is given up, however far it has come."""

import asyncio
from typing import Any

import pytest

from homelab_ai.models.hosts.starting import started
from support.house import quiet

pytestmark = pytest.mark.anyio


class Process:
    """Is there, and is ready, when a test says so."""

    def __init__(self) -> None:
        self.there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = False

    async def start(self) -> "Process":
        await self.there
        return self

    async def get_ready(self) -> None:
        await self.ready

    async def stop(self) -> None:
        self.stopped = True


async def begun(process: Process) -> "asyncio.Task[Process]":
    starting = asyncio.create_task(started(process.start(), Process.get_ready))
    await quiet()
    return starting


async def end_of(starting: "asyncio.Task[Process]") -> Any:
    return (await asyncio.gather(starting, return_exceptions=True))[0]


async def test_a_process_that_is_ready_is_returned() -> None:
    process = Process()
    starting = await begun(process)
    process.there.set_result(None)
    process.ready.set_result(None)
    assert await starting is process
    assert not process.stopped


async def test_one_that_does_not_get_ready_is_ended() -> None:
    process = Process()
    starting = await begun(process)
    process.there.set_result(None)
    process.ready.set_exception(ValueError("not today"))
    assert isinstance(await end_of(starting), ValueError)
    assert process.stopped


async def test_one_that_is_not_there_yet_is_ended_when_it_is() -> None:
    process = Process()
    starting = await begun(process)
    starting.cancel()
    await quiet()
    assert not starting.done()
    process.there.set_result(None)
    assert isinstance(await end_of(starting), asyncio.CancelledError)
    assert process.stopped


async def test_one_that_is_there_is_ended_at_once() -> None:
    process = Process()
    starting = await begun(process)
    process.there.set_result(None)
    await quiet()
    starting.cancel()
    assert isinstance(await end_of(starting), asyncio.CancelledError)
    assert process.stopped


async def test_who_gives_up_is_not_told_that_there_would_have_been_none() -> None:
    process = Process()
    starting = await begun(process)
    starting.cancel()
    await quiet()
    process.there.set_exception(OSError("too many processes"))
    assert isinstance(await end_of(starting), asyncio.CancelledError)
