"""How many runs are at work at once, over all models: hosts on the CPU take turns rather than fight for its cores."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

_PATIENCE_SECONDS = 2.0
"""A run that waits longer for the CPU starts all the same: one that hangs must not take all models with it."""


class Turns:
    """Who may work now."""

    def __init__(self, at_once: int) -> None:
        self._at_once = asyncio.Semaphore(at_once)
        self._cpu = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def take(self, *, on_cpu: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it to the end of the block."""
        async with contextlib.AsyncExitStack() as held:
            if on_cpu:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        await held.enter_async_context(self._cpu)
            await held.enter_async_context(self._at_once)
            yield
