"""Model hosts without a process, for tests of what stands above them."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from homelab_ai.models.files.downloads import ENGINE
from homelab_ai.models.hosts.host import Answer, Host, HostDied, HostPlan, OnProgress
from homelab_ai.models.memory import Footprint

DIMENSIONS = 8

FailingRun = Callable[[list[str]], Exception | None]
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
        }
        self.runs: list[list[str]] = []
        self.stopped = False
        self.stopped_under_a_run = False
        self.on_stop: Callable[[], object] = lambda: None
        self._at_work = 0
        self.stopping: asyncio.Event | None = None
        """While set to an event, the end of the process waits for it."""
        self.takes: Footprint | None = Footprint(10_000_000)
        self._dead = asyncio.Event()
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
        self._at_work += 1
        try:
            return await self._answer(texts)
        finally:
            self._at_work -= 1

    async def _answer(self, texts: list[str]) -> Answer:
        if self.busy:
            waits = [asyncio.ensure_future(event.wait()) for event in (self.busy, self._dead)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if self._dead.is_set():
            raise HostDied("its process was ended by SIGKILL")
        if error := self.on_run(texts):
            raise error
        matrix = np.array([vector_of(text) for text in texts], dtype=np.float32)
        truncated = [position for position, text in enumerate(texts) if len(text) > 1000]
        return Answer({"shape": matrix.shape, "truncated": truncated}, matrix.tobytes())


class Vectors:
    """Texts there and lists of numbers back, for what stands between a service and its hosts."""

    def pack(self, items: Sequence[str]) -> bytes:
        return orjson.dumps(items)

    def unpack(self, answer: Answer, count: int) -> list[list[float]]:
        rows: list[list[float]] = np.frombuffer(answer.body, np.float32).reshape(count, DIMENSIONS).tolist()
        return rows

    def weight(self, item: str) -> int:
        return len(item) + 1


VECTORS = Vectors()


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
        host = FakeHost(plan)
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
