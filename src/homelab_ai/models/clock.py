"""What this room needs of time. Tests bring a clock of their own."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Forget it."""
        ...


class Clock(Protocol):
    """What the registry needs of time; an event loop has it, too."""

    def time(self) -> float:
        """Seconds since some moment."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call the function after so many seconds."""
        ...


class SystemClock:
    """The time of this machine, and the timers of an event loop.

    uvloop's own time goes by whole milliseconds, in which much of what is measured here is over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call the function after so many seconds."""
        return self._loop.call_later(delay, callback)
