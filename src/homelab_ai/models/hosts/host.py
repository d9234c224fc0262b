"""A model host, seen from the service: one child process, one loaded model, as many runs at a time as its engine takes.

The registry starts a host, hands it runs and stops it. A run that waits belongs to its caller: when the caller has
gone, the run is dropped before it starts. A run that has started belongs to the host. Whoever waits is answered: when
the process ends, for whatever reason, every run gets `HostDied`.
"""

import asyncio
import collections
import contextlib
import contextvars
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from homelab_ai.models import memory
from homelab_ai.models.hosts import wire
from homelab_ai.models.hosts.channel import Channel, socket_pair
from homelab_ai.models.hosts.starting import started
from homelab_ai.models.memory import Footprint

log = logging.getLogger(__name__)

_OUTPUT_KEPT = 4000  # characters
_STOP_SECONDS = 5.0


class HostDied(Exception):
    """The process ended before it answered. The text says how, in words."""

    def __init__(self, cause: str, *, run_had_started: bool = False, hung: bool = False) -> None:
        super().__init__(cause)
        self.run_had_started, self.hung = run_had_started, hung
        """Whether it worked on this very run when it died; whether it was ended because it did not answer in time."""


class HostLoadFailed(Exception):
    """The process started but could not load its model. The text says why, without paths of this machine."""


class RunFailed(Exception):
    """The engine raised an error on this run; the host is still there.

    The text is the type of that error and nothing else: its own text could hold what the user sent.
    """

    def __init__(self, error_type: str, traceback: str) -> None:
        super().__init__(error_type)
        self.traceback = traceback


OnProgress = Callable[[Mapping[str, Any]], None]
"""Called on the event loop's thread with what the engine reports while it loads: figures of its own."""


@dataclass(frozen=True)
class HostPlan:
    """What a host is to load."""

    model_id: str
    engine: str
    """Dotted path of the engine module."""
    options: dict[str, Any]
    run_timeout_seconds: float
    """A host that takes longer than this over one run is taken for hung, and ended."""
    load_silence_seconds: float = 30
    """So is one that gives no sign of life for so long while it loads its model, which may take any time."""
    purpose: Literal["loaded", "downloaded"] = "loaded"
    """What is to become of the model, for the log."""


class StartHost(Protocol):
    """`Host.start`, or what stands in its place in a test."""

    async def __call__(self, plan: HostPlan, on_progress: OnProgress | None = None, /) -> "Host":
        """Start a host and wait until its model is loaded."""
        ...


@dataclass(frozen=True)
class Answer:
    """What came back from one run: the engine's own header and its raw bytes."""

    header: dict[str, Any]
    body: bytes


@dataclass(eq=False)
class _Run:
    number: int
    frame: list[bytes | memoryview]
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """For the caller, who may have given it up."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the host has answered."""


class Host:
    """One running model host. Use `start`; every method belongs to the event loop's thread."""

    def __init__(self, plan: HostPlan, process: asyncio.subprocess.Process, channel: Channel, output: Channel) -> None:
        self.plan = plan
        self.described: dict[str, Any] = {}
        """What the engine said of its model once it was loaded."""
        self._process = process
        self._channel = channel
        self._waiting: collections.deque[_Run] = collections.deque()
        self._under_way: dict[int, _Run] = {}
        """Runs that the process has, by their number."""
        self._numbers = itertools.count()
        self._arrival = asyncio.Event()
        self._output = output
        self._last_output = ""
        self._gone = False
        self._stopping = False
        self._verdict: str | None = None
        """Why this side ended the process, when that was it."""
        self._output_reader = self._task(self._keep_output())
        self._worker: asyncio.Task[None] | None = None
        self._end = self._task(self._await_end())

    @classmethod
    async def start(cls, plan: HostPlan, on_progress: OnProgress | None = None) -> Self:
        """Start the process and wait until its model is loaded. `on_progress` is told how far that is, as it changes.

        Raises `HostLoadFailed` or `HostDied`, and the process is gone then. Cancelling it ends the process too.
        """
        return await started(cls._start_process(plan), lambda host: host._load(on_progress))  # noqa: SLF001 - one of this class

    @property
    def pid(self) -> int:
        """Process id, which is the id of its process group too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be given runs."""
        return not self._gone

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        """Answer one run, in its turn. Raises `RunFailed` or `HostDied`; may be cancelled at any time."""
        if self._gone:
            raise HostDied(self.cause_of_death())
        number = next(self._numbers)
        run = _Run(number, wire.pack({"run": options, "number": number}, body))
        self._waiting.append(run)
        self._arrival.set()
        try:
            return await run.answer
        finally:
            if not run.answer.done() or run.answer.cancelled():
                with contextlib.suppress(ValueError):  # it had started
                    self._waiting.remove(run)

    async def ended(self) -> None:
        """Wait until the process, and whatever it has started, is gone and its memory back with the system."""
        await asyncio.shield(self._end)

    async def footprint(self) -> Footprint | None:
        """Measure what it takes now. None where this system does not tell."""
        private = await asyncio.to_thread(memory.private_bytes, self.pid)
        return None if private is None else Footprint(private, self.described.get("gpu_memory_bytes", 0))

    async def stop(self) -> None:
        """End the process and wait until it is gone. Runs that still wait get `HostDied`."""
        self._gone = self._stopping = True
        self._channel.close()  # the host ends itself when its channel closes
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self._end)
        except TimeoutError:
            self.kill()
            await asyncio.shield(self._end)

    def kill(self) -> None:
        """End the process, and whatever it has started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; or, on macOS, about to be
            os.killpg(self.pid, signal.SIGKILL)

    @classmethod
    async def _start_process(cls, plan: HostPlan) -> Self:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
            try:
                channel, its_channel = socket_pair(ours, its)
                output, its_output = socket_pair(ours, its)
                process = await cls._spawn(its_channel, its_output)
                # Should this fail, the closing of our end ends the process.
                host = cls(plan, process, await Channel.over(channel), await Channel.over(output))
            except OSError as error:
                raise HostLoadFailed(f"its process could not be started: {error.strerror}") from error
            ours.pop_all()
            return host

    @staticmethod
    async def _spawn(channel: socket.socket, output: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the working directory must not shadow a module of the host
            "-m",
            "homelab_ai.models.hosts.process",
            str(channel.fileno()),
            pass_fds=[channel.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            # Not asyncio's own pipes: before Python 3.11.10, `wait` does not return while anything that the process has
            # started still holds one of them.
            stdout=output.fileno(),
            stderr=output.fileno(),
            env=_environment(),
            # A session of its own: Ctrl-C in the service's terminal does not reach it, and the whole group, whatever
            # a library started in it, can be ended at once.
            start_new_session=True,
        )

    @staticmethod
    def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # With a context of its own: it outlives the request that happened to start this host, so what it logs must not
        # carry that request's id.
        return asyncio.create_task(work, context=contextvars.Context())

    async def _load(self, on_progress: OnProgress | None) -> None:
        try:
            await self._channel.send(wire.pack({"engine": self.plan.engine, "options": self.plan.options}))
            header: wire.Header = {"type": "loading"}
            progress = None
            while header["type"] == "loading":
                async with asyncio.timeout(self.plan.load_silence_seconds):
                    header, _ = await self._channel.read()
                if on_progress and header.get("progress", progress) != progress:
                    progress = header["progress"]
                    on_progress(progress)
        except TimeoutError:
            raise HostLoadFailed(_silent_for(self.plan.load_silence_seconds)) from None
        except OSError as error:
            await asyncio.shield(self._end)
            raise HostDied(self.cause_of_death()) from error
        if header["type"] == "failed":
            log.warning(
                "model %s could not be %s: %s\n%s",
                self.plan.model_id,
                self.plan.purpose,
                header["reason"],
                header["traceback"],
            )
            raise HostLoadFailed(header["reason"])
        self.described = header["engine"]
        self._worker = self._task(self._work())

    async def _work(self) -> None:
        """Give the process its runs, and their callers its answers, until it is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_answers())
                for _ in range(self.described.get("runs_at_once", 1)):
                    group.create_task(self._give_runs())
        except* TimeoutError:
            self._verdict = _silent_for(self.plan.run_timeout_seconds)
        except* OSError:
            log.debug("model %s: its host closed the channel", self.plan.model_id)
        except* Exception:
            log.exception("model %s: its host cannot be used any more", self.plan.model_id)
        finally:
            self._gone = True
            self.kill()

    async def _give_runs(self) -> None:
        """Give the process one run after the other."""
        while True:
            run = await self._next_run()
            self._under_way[run.number] = run
            async with asyncio.timeout(self.plan.run_timeout_seconds):
                await self._channel.send(run.frame)
                await run.is_over.wait()

    async def _next_run(self) -> _Run:
        while True:
            while self._waiting:
                run = self._waiting.popleft()
                if not run.answer.done():  # else its caller has gone
                    return run
            self._arrival.clear()
            await self._arrival.wait()

    async def _take_answers(self) -> None:
        while True:
            header, body = await self._channel.read()
            run = self._under_way.pop(header["number"])
            run.is_over.set()
            if run.answer.done():
                continue
            if header["type"] == "error":
                run.answer.set_exception(RunFailed(header["error_type"], header["traceback"]))
            else:
                result = header["result"]
                if "gpu_memory_bytes" in result:  # it takes more, once it has worked
                    self.described["gpu_memory_bytes"] = result.pop("gpu_memory_bytes")
                run.answer.set_result(Answer(result, body))

    async def _keep_output(self) -> None:
        """Read what the host prints, so that printing never blocks it, and keep the end for the day it dies."""
        with contextlib.suppress(OSError):
            while chunk := await self._output.reader.read(_OUTPUT_KEPT):
                self._last_output = (self._last_output + chunk.decode(errors="replace"))[-_OUTPUT_KEPT:]

    async def _await_end(self) -> None:
        """The one place that knows that the process has ended, and that answers everybody who still waits."""
        await self._process.wait()
        self._gone = True
        self.kill()  # what it has started may outlive it
        self._channel.close()
        if self._worker:
            self._worker.cancel()
        for run in [*self._under_way.values(), *self._waiting]:
            if not run.answer.done():
                had_started = run.number in self._under_way
                death = HostDied(self.cause_of_death(), run_had_started=had_started, hung=self._verdict is not None)
                run.answer.set_exception(death)
        await asyncio.wait([self._output_reader], timeout=1)
        self._output_reader.cancel()
        self._output.close()
        if not self._stopping:
            log.warning(
                "model %s: %s. Its last words:\n%s",
                self.plan.model_id,
                self.cause_of_death(),
                self._last_output.strip() or "(none)",
            )

    def cause_of_death(self) -> str:
        """How the process ended, in words."""
        if self._verdict:
            return self._verdict
        code = self._process.returncode
        if code is None:
            return "its process is being ended"
        if code >= 0:
            return f"its process ended with status {code}"
        if code == -signal.SIGKILL:
            return "its process was ended by SIGKILL (the kernel does that when memory runs out)"
        names = {known.value: known.name for known in signal.Signals}
        return f"its process was ended by {names.get(-code, f'signal {-code}')}"


def _silent_for(seconds: float) -> str:
    return f"its process has not answered for {seconds:g} s and was ended"


def _environment() -> dict[str, str]:
    """The service's own environment without its settings, since a model has no business with our keys, and with ours.

    Only what keeps a library quiet or from calling home is forced; the operator may set the rest otherwise.
    """
    defaults = {
        # Threads that wait for each other sleep rather than spin. Spinning wins nothing on an idle machine and, where
        # another program wants a core, makes a short answer take several times as long (`make bench` shows it).
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    forced = {
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("HOMELAB_AI")}
    return defaults | inherited | forced
