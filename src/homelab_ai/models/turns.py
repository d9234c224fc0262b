"""How many runs are at work at once, over all models: hosts on the CPU take turns rather than fight for its cores."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from homelab_ai.models.clock import Clock

_PATIENCE_SECONDS = 2.0
"""A host that waits longer for the CPU starts all the same: a run that hangs must not take all models with it."""


class Turns:
    """Who may work now."""

    def __init__(self, at_once: int, clock: Clock) -> None:
        self._clock = clock
        self.places = asyncio.Semaphore(at_once)
        """One for each run, to be taken before it begins."""
        self._cpu = asyncio.Lock()
        self._on_cpu = 0
        """How many have the CPU, or wait for it."""

    @property
    def cpu_is_taken(self) -> bool:
        """Whether somebody has the CPU, or wants it and comes first."""
        return self._on_cpu > 0  # and not the lock: that looks free until whom it was handed to wakes up

    @property
    def cpu_is_wanted(self) -> bool:
        """Whether somebody waits for the CPU while another has it."""
        return self._on_cpu > 1

    @contextlib.asynccontextmanager
    async def on_cpu(self) -> AsyncIterator[None]:
        """Wait for the CPU, and have it to the end of the block."""
        self._on_cpu += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                if await self._cpu_in_time():
                    held.callback(self._cpu.release)
                yield
        finally:
            self._on_cpu -= 1

    async def _cpu_in_time(self) -> bool:
        """Wait for the CPU, but not for ever. Returns whether it is held now."""
        turn = asyncio.ensure_future(self._cpu.acquire())
        timer = self._clock.call_later(_PATIENCE_SECONDS, turn.cancel)
        try:
            await asyncio.wait([turn])
        except asyncio.CancelledError:
            if not turn.cancel() and not turn.cancelled():
                self._cpu.release()  # it came in the moment in which the caller went
            raise
        finally:
            timer.cancel()
        return not turn.cancelled()
