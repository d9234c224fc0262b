"""The browser's process, seen from the service: one child that renders several pages at a time.

What runs in it is `crawling.engines.process`. It is not a model host: those answer one run after the other.
"""

import asyncio
import contextlib
import contextvars
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any, Self

from homelab_ai.crawling import processes
from homelab_ai.crawling.pages import Rendered, RenderFailed
from homelab_ai.crawling.passage import MayGo
from homelab_ai.models import memory
from homelab_ai.models.hosts import wire
from homelab_ai.models.hosts.starting import started
from homelab_ai.models.memory import Footprint

_PROGRAM = "homelab_ai.crawling.engines.process"
_FOLDER_PREFIX = "homelab-ai-browser-"
_CHANNEL_BUFFER = 2**20
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_NOT_INHERITED = ("HOMELAB_AI", "PLAYWRIGHT", "PW_", "CHROME", "CHROMIUM", "GOOGLE", "NODE_", "SSLKEYLOGFILE", "DEBUG")


class BrowserDied(Exception):
    """The process ended before it answered."""


class BrowserStartFailed(Exception):
    """There is no browser, or it does not start. The text is the end of a sentence."""


@dataclass
class _Rendering:
    """A page that the process is at."""

    answer: asyncio.Future[Rendered]
    may_go: MayGo | None
    questions: set[asyncio.Task[None]] = field(default_factory=set)


class BrowserProcess:
    """One running browser. Use `start`; every method belongs to the event loop's thread."""

    def __init__(self, process: asyncio.subprocess.Process, folder: str, channel: socket.socket) -> None:
        self.described: dict[str, Any] = {}
        """What it says of itself: `version`, `sandboxed`."""
        self.pages = 0
        """How many it was given so far."""
        self._process = process
        self._folder = folder
        self._channel = channel
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, _Rendering] = {}
        self._done = asyncio.Event()
        """Set whenever a page is done."""
        self._gone = False
        self._reading: asyncio.Task[None] | None = None
        # With a context of its own: it outlives the request that happened to start it.
        self._end = asyncio.create_task(self._await_end(), context=contextvars.Context())

    @classmethod
    async def start(cls, options: dict[str, Any]) -> Self:
        """Start the process and wait until its browser can be used.

        Raises `BrowserStartFailed`, and the process is gone then. Cancelling it ends the process too.
        """
        return await started(cls._spawn(), lambda process: process._get_ready(options))  # noqa: SLF001 - one of this class

    @property
    def pid(self) -> int:
        """Of the process above all those of the browser."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be given pages."""
        return not self._gone

    @property
    def at_work(self) -> int:
        """How many pages it is at."""
        return len(self._waiting)

    async def render(self, wish: dict[str, Any], may_go: MayGo | None = None) -> Rendered:
        """Have one page rendered.

        Raises `RenderFailed`, `BrowserDied`, or what `may_go` raises; may be cancelled at any time.
        """
        if self._gone:
            raise BrowserDied
        number = next(self._numbers)
        self.pages += 1
        answer: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        self._waiting[number] = rendering = _Rendering(answer, may_go)
        try:
            self._send({"id": number, "render": wish})
            return await answer
        except asyncio.CancelledError:
            self._send({"id": number, "cancel": True})
            raise
        finally:
            self._waiting.pop(number, None)
            for question in rendering.questions:
                question.cancel()
            self._done.set()

    async def idle(self) -> None:
        """Wait until it is at no page, or has ended."""
        while self._waiting and not self._gone:
            self._done.clear()
            await self._done.wait()

    async def stop(self) -> None:
        """End it and everything that belongs to it, and wait until that is gone."""
        self._gone = True
        self._close()  # it ends itself when its channel closes
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self._end)
        except TimeoutError:
            self.kill()
            await asyncio.shield(self._end)

    def kill(self) -> None:
        """End the process at once; what belongs to it follows."""
        self._gone = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait until nothing of it is left."""
        await asyncio.shield(self._end)

    async def footprint(self) -> Footprint | None:
        """Measure the private memory of all its processes. None where this system does not tell."""

        def measure() -> int | None:
            return memory.private_bytes_of([self.pid, *processes.below(self.pid)])

        found = await asyncio.to_thread(measure)
        return Footprint(found) if found else None

    @classmethod
    async def _spawn(cls) -> Self:
        with contextlib.ExitStack() as undoing:
            try:
                folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
                undoing.callback(shutil.rmtree, folder, ignore_errors=True)
                ours, its = socket.socketpair()
                undoing.enter_context(ours)
                with its:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable,
                        "-P",  # the working directory must not shadow a module
                        "-m",
                        _PROGRAM,
                        str(its.fileno()),
                        folder,
                        pass_fds=[its.fileno()],
                        stdin=asyncio.subprocess.DEVNULL,
                        # Chromium warns of much, and what it says may hold what a page has said.
                        stdout=asyncio.subprocess.DEVNULL,
                        stderr=asyncio.subprocess.DEVNULL,
                        env=_environment(folder),
                        start_new_session=True,
                    )
            except OSError as error:
                raise BrowserStartFailed(f"its process could not be started: {error.strerror}") from error
            undoing.pop_all()
        return cls(process, folder, ours)

    async def _get_ready(self, options: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                reader, self._writer = await asyncio.open_unix_connection(sock=self._channel, limit=_CHANNEL_BUFFER)
                self._send(options)
                header, _ = await wire.read(reader)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise BrowserStartFailed("its process ends, or does not answer, while it starts") from error
        if "failed" in header:
            raise BrowserStartFailed(header["failed"])
        self.described = header["ready"]
        self._reading = asyncio.create_task(self._read(reader), context=contextvars.Context())

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header, body = await wire.read(reader)
                rendering = self._waiting.get(header["id"])
                if not rendering or (answer := rendering.answer).done():
                    continue  # whoever asked has gone
                if "may_go" in header:
                    question = asyncio.create_task(self._answer(rendering, header))
                    rendering.questions.add(question)
                    question.add_done_callback(rendering.questions.discard)
                elif "error" in header:
                    answer.set_exception(RenderFailed(header["error"], header["reason"]))
                else:
                    size = header["html_bytes"]
                    answer.set_result(Rendered(header["page"], body[:size], body[size:]))
        self._gone = True
        self._close()

    async def _answer(self, rendering: _Rendering, asked: wire.Header) -> None:
        """Let the page go where it is about to, or end it."""
        try:
            if rendering.may_go:
                await rendering.may_go(asked["may_go"])
            self._send({"id": asked["id"], "go": asked["question"]})
        except Exception as error:  # noqa: BLE001 - whoever waits for the page is told, whatever it is
            self._send({"id": asked["id"], "cancel": True})
            if not rendering.answer.done():
                rendering.answer.set_exception(error)

    def _send(self, header: wire.Header) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.writelines(wire.pack(header))

    def _close(self) -> None:
        if self._writer:
            self._writer.close()
        else:
            self._channel.close()

    async def _await_end(self) -> None:
        """The one place that knows that the process has ended, and that answers everybody who still waits."""
        await self._process.wait()
        self._gone = True
        self._close()
        # It ends all that belongs to it and removes its folder itself, unless it was killed.
        await asyncio.to_thread(_clear_away, self._folder)
        if self._reading:
            await self._reading  # what it has answered before its end counts
        for rendering in self._waiting.values():
            if not rendering.answer.done():
                rendering.answer.set_exception(BrowserDied())


def _clear_away(folder: str) -> None:
    if os.path.isdir(folder):  # noqa: PTH112 - it is a name to look for, too
        processes.end_holding(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: str) -> dict[str, str]:
    """The service's own environment without what is ours and what would have a say in what the browser does."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_NOT_INHERITED) and not name.lower().endswith("_proxy")
    }
    # Its profile, its settings and its shared memory are in one folder, which goes with it.
    own = dict.fromkeys(("TMPDIR", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), folder)
    return inherited | own | {"PLAYWRIGHT_BROWSERS_PATH": _browsers_path()}


def _browsers_path() -> str:
    """Where Playwright has put its own browsers, which it would look for in the home that it is given."""
    if path := os.environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        return path
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - a text for a variable
    return os.path.join(cache, "ms-playwright")  # noqa: PTH118 - as above
