"""The start of a child process, which may fail or be cancelled half-way: then nothing of it is left."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar


class Process(Protocol):
    """A process that runs."""

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        ...


_P = TypeVar("_P", bound=Process)


async def started(start: Coroutine[Any, Any, _P], get_ready: Callable[[_P], Awaitable[None]]) -> _P:
    """Return the process that comes of `start`, when it is ready. Raises what either raises."""
    starting = asyncio.create_task(start)
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A process that is half started cannot be ended: let it get there, which takes milliseconds, then end it.
        with contextlib.suppress(Exception):  # it has not got there: who is cancelled is not told
            await (await starting).stop()
        raise
    try:
        await get_ready(process)
    except BaseException:
        await process.stop()
        raise
    return process
