"""The browser's process, seen from inside: starts Chromium and renders pages, several at a time.

Started by `crawling.browser_process` as `python -m homelab_ai.crawling.engines.process FD FOLDER`. FD is its end of a
socket pair, over which the frames of `models.hosts.wire` go. The first one says how to start; the answer is `ready` or
`failed`. Then each `render` has an `id`, under which its `page` or `error` is answered, in any order, and `cancel` ends
it. A page that is to ask before it goes anywhere sends `may_go`, and waits for the `go` of that question. FOLDER holds
everything that the browser writes, and goes with it.

A process of its own, so that Playwright with its driver and the whole pages that pass through it are no load on the
service, and so that there is one thing to end. Nothing outlives it: Chromium and the driver are below it whatever
becomes of their parents (prctl(2), PR_SET_CHILD_SUBREAPER), and a thread that reads the socket ends them when the
service closes its end or dies.
"""

import asyncio
import contextlib
import ctypes
import functools
import itertools
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

from homelab_ai.crawling import processes
from homelab_ai.crawling.engines.chromium import Chromium, LaunchFailed
from homelab_ai.crawling.pages import RenderFailed
from homelab_ai.models.hosts import wire
from homelab_ai.models.hosts.process import be_first_to_go_when_memory_ends

_PR_SET_CHILD_SUBREAPER = 36
_MEMORY_BYTES = 3 * 1024**3
"""What each of the processes may have of its own. By this measure, a page's has 0.6 GB before it has done anything."""


def main() -> None:
    """Run the browser on the file descriptor and in the folder that the arguments name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the service's terminal is the service's business
    _adopt_orphans()
    be_first_to_go_when_memory_ends()
    _limit_memory()
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    folder = Path(sys.argv[2])
    try:
        asyncio.run(_serve(channel, folder))
    finally:
        _end(folder)


def _end(folder: Path) -> Never:
    processes.end_below(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # there is nothing left to tidy up, and a library's thread could hold an exit up


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):  # there is none but on Linux
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _limit_memory() -> None:
    """Have a page that takes memory without end come to its own end: Chromium's limit is 16 GB, or none at all."""
    with contextlib.suppress(ValueError, OSError):  # there is a lower one
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))


async def _serve(channel: socket.socket, folder: Path) -> None:
    inbox: asyncio.Queue[wire.Header] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_listen, args=(channel, loop, inbox, folder), name="channel", daemon=True).start()
    options = await inbox.get()
    try:
        chromium = await Chromium.launch(options)
    except LaunchFailed as failure:
        wire.send(channel, {"failed": str(failure)})
        return
    wire.send(channel, {"ready": chromium.described})
    server = _Server(channel, chromium)
    serving = asyncio.create_task(server.serve(inbox))
    await asyncio.wait([serving, asyncio.create_task(chromium.ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    _end(folder)  # without an answer to what it was at: the service has those pages rendered anew


def _listen(
    channel: socket.socket, loop: asyncio.AbstractEventLoop, inbox: "asyncio.Queue[wire.Header]", folder: Path
) -> None:
    try:
        while True:
            header, _ = wire.receive(channel)
            loop.call_soon_threadsafe(inbox.put_nowait, header)
    except (EOFError, OSError, RuntimeError):  # the service has gone, or the loop
        _end(folder)


class _Server:
    """Carries out what is asked, each request in a task of its own."""

    def __init__(self, channel: socket.socket, chromium: Chromium) -> None:
        self._channel = channel
        self._chromium = chromium
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Event] = {}

    async def serve(self, inbox: "asyncio.Queue[wire.Header]") -> None:
        """Go on for ever."""
        while True:
            header = await inbox.get()
            request: int = header["id"]
            if "cancel" in header:
                if task := self._tasks.get(request):
                    task.cancel()
            elif "go" in header:
                if asked := self._asked.get(header["go"]):
                    asked.set()
            else:
                self._tasks[request] = task = asyncio.create_task(self._answer(request, header["render"]))
                task.add_done_callback(lambda _, request=request: self._tasks.pop(request, None))  # type: ignore[misc]

    async def _answer(self, request: int, wish: Mapping[str, Any]) -> None:
        try:
            page = await self._chromium.render(wish, functools.partial(self._ask, request))
            header = {"id": request, "page": page.facts, "html_bytes": len(page.html)}
            wire.pack(header, b"")  # what cannot be sent is a fault of this page alone
        except RenderFailed as error:
            if self._chromium.ended.is_set():
                return  # this process ends; the service has the page rendered anew
            await self._send({"id": request, "error": error.kind, "reason": str(error)})
        except Exception as error:  # noqa: BLE001 - one page must not take the others down, whatever a library raises
            # Where it happened, without the error's own text, which may hold an address.
            trace = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
            await self._send({"id": request, "error": "failed", "reason": trace})
        else:
            await self._send(header, page.html + page.screenshot)

    async def _ask(self, request: int, url: str) -> None:
        """Return when the page may go there; if it may not, it is cancelled."""
        number = next(self._numbers)
        self._asked[number] = answered = asyncio.Event()
        try:
            await self._send({"id": request, "may_go": url, "question": number})
            await answered.wait()
        finally:
            del self._asked[number]

    async def _send(self, header: wire.Header, body: bytes = b"") -> None:
        # Shielded: a frame that has begun is sent to its end, also for a request that is cancelled meanwhile.
        await asyncio.shield(asyncio.create_task(self._send_in_turn(header, body)))

    async def _send_in_turn(self, header: wire.Header, body: bytes) -> None:
        async with self._sending:
            await asyncio.to_thread(wire.send, self._channel, header, body)


if __name__ == "__main__":
    main()
