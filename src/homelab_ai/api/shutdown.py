"""Lets answers that may go on for hours end in time when the service is told to stop.

The server tells the application that it ends when all answers are complete, which for a stream of events would be too
late: Ctrl-C would wait for the last download. So the signals are noticed on their way to the server. What a client has
not read of such an answer by then is not waited for either (`server.Protocol`): whoever wants it asks anew.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import TypeVar

from starlette.types import Scope

T = TypeVar("T")

_SCOPE_KEY = "homelab_ai.ends_with_the_service"


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


def ends_with_the_service(scope: Scope) -> bool:
    """Whether the answer to the request of this ASGI scope has no other end that is worth waiting for."""
    return _SCOPE_KEY in scope


async def until(scope: Scope, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what `items` yields, for the request of this ASGI scope, but only until the service is told to stop."""
    scope[_SCOPE_KEY] = True
    stop = asyncio.ensure_future(scope["state"]["stopping"].wait())
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
