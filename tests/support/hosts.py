"""Model hosts without a process, for tests of what stands above them."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from homelab_ai.captioning import decoder
from homelab_ai.captioning import service as captioning
from homelab_ai.models.files.downloads import ENGINE
from homelab_ai.models.hosts.host import Answer, Host, HostDied, HostPlan, OnProgress, RunFailed
from homelab_ai.models.memory import Footprint

DIMENSIONS = 8

FailingRun = Callable[[list[str]], Exception | None]
FINGERPRINT = "0123456789abcdef"
FailingStart = Callable[[HostPlan], Exception | None]


def vector_of(text: str) -> list[float]:
    """The vector that a fake host gives a text: a function of the text and of nothing else."""
    digest = hashlib.sha256(text.encode()).digest()
    vector = np.frombuffer(digest[:DIMENSIONS], dtype=np.uint8).astype(np.float32) + 1
    return [float(value) for value in vector / np.linalg.norm(vector)]


class FakeHost(Host):
    """Answers at once, cuts texts of more than 1000 characters, and dies when it is told to."""

    def __init__(self, plan: HostPlan) -> None:
        self.plan = plan
        self.described = {
            "backend": "fake",
            "device": "cpu",
            "precision": "float32",
            "dimensions": DIMENSIONS,
            "max_length": 1000,
            "fingerprint": FINGERPRINT,
        }
        self.runs: list[list[str]] = []
        self.stopped = False
        self.stopped_under_a_run = False
        self.on_stop: Callable[[], object] = lambda: None
        self.ends: list[asyncio.Event] = []
        """Of each run: set to an end that it need not wait for."""
        self._at_work = 0
        self.stopping: asyncio.Event | None = None
        """While set to an event, the end of the process waits for it."""
        self.takes: Footprint | None = Footprint(10_000_000)
        self._dead = asyncio.Event()
        self.says: dict[str, Any] = {}
        """What it says in the header of every answer, beside what is needed."""
        self.busy: asyncio.Event | None = None
        """While set to an event, runs wait for it."""
        self.on_run: FailingRun = lambda texts: None
        """Returns the error with which a run is to fail."""

    @property
    def alive(self) -> bool:
        return not (self._dead.is_set() or self.stopped)

    def kill(self) -> None:
        self._dead.set()

    def cause_of_death(self) -> str:
        return "its process was ended by SIGKILL"

    async def ended(self) -> None:
        await self._dead.wait()

    async def footprint(self) -> Footprint | None:
        return self.takes

    async def stop(self) -> None:
        self.on_stop()
        self.stopped = True
        self.stopped_under_a_run |= self._at_work > 0
        if self.stopping:
            await self.stopping.wait()
        self._dead.set()

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        texts: list[str] = orjson.loads(body)
        self.runs.append(texts)
        self.ends.append(end := asyncio.Event())
        self._at_work += 1
        try:
            return await self._answer(texts, end)
        finally:
            self._at_work -= 1

    async def _answer(self, texts: list[str], end: asyncio.Event) -> Answer:
        if self.busy:
            waits = [asyncio.ensure_future(event.wait()) for event in (self.busy, self._dead, end)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if self._dead.is_set():
            raise HostDied("its process was ended by SIGKILL", run_had_started=True)
        if error := self.on_run(texts):
            raise error
        matrix = np.array([vector_of(text) for text in texts], dtype=np.float32)
        truncated = [position for position, text in enumerate(texts) if len(text) > 1000]
        return Answer({"shape": matrix.shape, "truncated": truncated, **self.says}, matrix.tobytes())


class Vectors:
    """Texts there and lists of numbers back, for what stands between a service and its hosts."""

    run_seconds = 0.4

    def pack(self, items: Sequence[str]) -> bytes:
        return orjson.dumps(items)

    def unpack(self, answer: Answer, count: int) -> list[list[float]]:
        rows: list[list[float]] = np.frombuffer(answer.body, np.float32).reshape(count, DIMENSIONS).tolist()
        return rows

    def weight(self, item: str) -> int:
        return len(item) + 1


VECTORS = Vectors()


class FakeDecoder(FakeHost):
    """Takes a file that says `image: NAME` for an image; other files are refused by what they say, or kill it."""

    async def _answer_to(self, body: bytes) -> Answer:
        word, _, rest = body.decode("latin-1").partition(": ")
        match word:
            case "image":
                pixels = rest.encode().ljust(3, b" ")[:3]
                return Answer({"width": 1, "height": 1}, pixels)
            case "unknown" | "damaged" | "too_large":
                return Answer({"refused": word, "reason": rest}, b"")
            case "deadly":
                self.kill()
                raise HostDied("its process was ended by SIGKILL", run_had_started=True)
            case _:
                raise RunFailed("RuntimeError", "")

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        self.runs.append([body.decode("latin-1")])
        if self.busy:
            await self.busy.wait()
        return await self._answer_to(body)


class FakeCaptioner(FakeHost):
    """Says of each image what its pixels say."""

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        names = [body[start + 8 : start + 11].decode().strip() for start in range(0, len(body), 11)]
        self.runs.append([f"{name} {options}" for name in names])
        if options["prompt"] == "refused":
            return Answer({"refused": "prompt"}, b"")
        if error := self.on_run(names):
            raise error
        asked = f", asked {options['prompt']}" if options["prompt"] else ""
        return Answer(self.says, orjson.dumps([f"a picture of {name}{asked}" for name in names]))


_KINDS: dict[str, type[FakeHost]] = {captioning.ENGINE: FakeCaptioner, decoder.ENGINE: FakeDecoder}


class FakeHosts:
    """Stands where `Host.start` stands, and remembers what it started."""

    def __init__(self) -> None:
        self.asked: list[HostPlan] = []
        self.started: list[FakeHost] = []
        self.on_start: FailingStart = lambda plan: None
        """Returns the error with which the next start is to fail."""
        self.starting: asyncio.Event | None = None
        """While set to an event, starts wait for it."""
        self.prepare: Callable[[FakeHost], None] = lambda host: None
        self.downloads: list[HostPlan] = []
        self.on_download: FailingStart = lambda plan: None
        """Returns the error with which the next download is to fail."""
        self.progress: asyncio.Queue[tuple[int, int]] | None = None
        """While set, downloads go on as it says, in bytes of bytes, to their end."""

    async def __call__(self, plan: HostPlan, on_progress: OnProgress | None = None, /) -> FakeHost:
        if plan.engine == ENGINE:
            return await self._download(plan, on_progress)
        self.asked.append(plan)
        await asyncio.sleep(0)
        if self.starting:
            await self.starting.wait()
        if error := self.on_start(plan):
            raise error
        host = _KINDS.get(plan.engine, FakeHost)(plan)
        self.prepare(host)
        self.started.append(host)
        return host

    async def _download(self, plan: HostPlan, on_progress: OnProgress | None) -> FakeHost:
        self.downloads.append(plan)
        await asyncio.sleep(0)
        done, total = 0, -1
        while self.progress and done != total:
            done, total = await self.progress.get()
            assert on_progress
            on_progress({"bytes": done, "total_bytes": total})
        if error := self.on_download(plan):
            raise error
        return FakeHost(plan)
