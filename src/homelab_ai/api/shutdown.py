"""Lets answers that may go on for hours end in time when the service is told to stop.

The server tells the application that it ends when all answers are complete, which for a stream of events would be too
late: Ctrl-C would wait for the last download. So the signals are noticed on their way to the server.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def noticed() -> Iterator[asyncio.Event]:
    """Yield an event of the running loop that is set when the server is told to stop, where it handles signals."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def notice(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    ours = [number for number, handler in former.items() if callable(handler) and _in_main_thread()]
    for number in ours:
        signal.signal(number, notice)
    try:
        yield stopping
    finally:
        for number in ours:
            if signal.getsignal(number) is notice:
                signal.signal(number, former[number])


async def until(stopping: asyncio.Event, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what `items` yields, but no longer than until the service is told to stop."""
    stop = asyncio.ensure_future(stopping.wait())
    try:
        while True:
            step = asyncio.ensure_future(anext(items, None))
            try:
                await asyncio.wait((step, stop), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
            if not step.done() or (item := step.result()) is None:
                break
            yield item
    finally:
        stop.cancel()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
