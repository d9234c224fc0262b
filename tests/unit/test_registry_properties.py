"""The registry under any sequence of requests, loads, crashes, growth, removals and time: what always holds."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homelab_ai.errors import ServiceError
from homelab_ai.models.catalogue import Model
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed, HostPlan
from homelab_ai.models.inventory import ENTRY_TYPES
from homelab_ai.models.memory import Footprint, total
from homelab_ai.models.registry import LocalModels
from homelab_ai.models.residency import Slot
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import VECTORS, FakeHost, FakeHosts, vector_of

KEEP_ALIVES: dict[str, float] = {"zero": 0, "short": 1, "long": 30, "gpu": 5, "pinned": -1}
GB = 1024**3
names = st.sampled_from(list(KEEP_ALIVES))
eighths = st.integers(1, 10).map(lambda n: n * GB // 8)


class Registry(RuleBasedStateMachine):
    """Five models over a budget of one gigabyte of either memory, which some of them alone exceed."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hosts, self.clock = FakeHosts(), Clock()
        self.hosts.prepare, self.hosts.on_start = self._prepare, self._on_start
        self.sizes: dict[str, Footprint] = {}
        self.failures: list[Exception] = []
        self.evicted_under_a_lease = False
        self.busy = asyncio.Event()
        self.requests: list[asyncio.Task[Any]] = []
        self.other: list[asyncio.Task[Any]] = []

    @initialize(sizes=st.fixed_dictionaries(dict.fromkeys(KEEP_ALIVES, eighths)))
    def start(self, sizes: dict[str, int]) -> None:
        entries = [
            {"id": name, "hf_model": f"org/{name}", "keep_alive_minutes": minutes}
            for name, minutes in KEEP_ALIVES.items()
        ]
        configured = Settings.model_validate(
            {
                "data_dir": "/nonexistent",
                "models_dir": "/nonexistent",
                "models": {"text_embedding": entries, "image_caption": []},
                "batching": {"window_ms": 0},  # the clock stands still
                "resources": {"max_memory_gb": 1.0, "max_gpu_memory_gb": 1.0, "device": "cpu"},
            }
        )
        self.sizes = {
            name: Footprint(GB // 10, size) if name == "gpu" else Footprint(size) for name, size in sizes.items()
        }
        self.models = LocalModels(configured, {"text_embedding": "an.engine"}, self.hosts, clock=self.clock)

    def _prepare(self, host: FakeHost) -> None:
        host.takes, host.busy = self.sizes[host.plan.model_id], self.busy
        host.on_stop = lambda: self._on_stop(host)

    def _on_stop(self, host: FakeHost) -> None:
        for slot in self._slots():
            if slot.resident and slot.resident.host is host:
                self.evicted_under_a_lease |= slot.resident.leases > 0

    def _slots(self) -> list[Slot]:
        return self.models._scheduler.slots

    def _on_start(self, plan: HostPlan) -> Exception | None:
        return self.failures.pop() if self.failures else None

    def _do(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return self.loop.create_task(work)

    def _let_happen(self) -> None:
        """Let all that can go on without time passing go on."""

        async def until_quiet() -> None:
            # To the very end, and not so many steps: how many there are depends on how fast threads are.
            while True:
                while self.loop._ready:  # type: ignore[attr-defined]
                    await asyncio.sleep(0)
                if not any(slot.preparing for slot in self._slots()):  # in a thread
                    return
                await asyncio.sleep(0.0005)

        self.loop.run_until_complete(until_quiet())

    async def _ask(self, name: str, runs: int) -> None:
        async with self.models.lease(self.models.catalogue.get(name)) as lease:
            for number in range(runs):
                text = f"{name} {number}"
                assert await lease.run(VECTORS, {}, [text]) == [vector_of(text)]

    @rule(name=names, runs=st.integers(1, 3))
    def request(self, name: str, runs: int) -> None:
        self.requests.append(self._do(self._ask(name, runs)))

    def _offered(self, name: str) -> Model | None:
        return next((model for model in self.models.catalogue if model.id == name), None)

    @rule(name=names)
    def load(self, name: str) -> None:
        if model := self._offered(name):
            self.other.append(self._do(self.models.load(model)))

    @rule(name=names)
    def unload(self, name: str) -> None:
        if model := self._offered(name):
            self.other.append(self._do(self.models.unload(model)))

    @rule(name=names)
    def remove(self, name: str) -> None:
        if model := self._offered(name):
            self.other.append(self._do(self.models.remove(model)))

    @rule(name=names)
    def add(self, name: str) -> None:
        if not self._offered(name):
            settings = {"id": name, "hf_model": f"org/{name}", "keep_alive_minutes": KEEP_ALIVES[name]}
            entry = ENTRY_TYPES["text_embedding"].model_validate(settings)
            # To its end: it looks at folders in a thread, and a machine must not depend on how fast that is.
            self.loop.run_until_complete(self._do(self.models.add("text_embedding", entry)))

    @rule(name=names, enabled=st.booleans(), minutes=st.sampled_from([0.0, 1.0, -1.0]))
    def change(self, name: str, *, enabled: bool, minutes: float) -> None:
        if model := self._offered(name):
            changes = {"enabled": enabled, "keep_alive_minutes": minutes}

            async def do() -> None:
                self.models.change(model, changes)

            self.loop.run_until_complete(do())

    @rule()
    def finish_runs(self) -> None:
        self.busy.set()
        self._let_happen()
        self.busy = asyncio.Event()
        for host in self.hosts.started:
            host.busy = self.busy

    @precondition(lambda self: not self.hosts.starting)
    @rule()
    def hold_starts(self) -> None:
        self.hosts.starting = asyncio.Event()

    @precondition(lambda self: self.hosts.starting)
    @rule()
    def release_starts(self) -> None:
        assert self.hosts.starting
        self.hosts.starting.set()
        self.hosts.starting = None

    @rule(error=st.sampled_from([HostLoadFailed("no"), HostDied("killed"), ZeroDivisionError()]))
    def let_the_next_start_fail(self, error: Exception) -> None:
        self.failures.append(error)

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._alive())).kill()

    @rule(name=names, size=eighths)
    def grow(self, name: str, size: int) -> None:
        self.sizes[name] = Footprint(GB // 10, size) if name == "gpu" else Footprint(size)
        for host in self._alive():
            if host.plan.model_id == name and not host.runs:  # what has worked is measured with its next idle moment
                host.takes = self.sizes[name]

    @precondition(lambda self: any(not task.done() for task in self.requests))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([task for task in self.requests if not task.done()])).cancel()

    @rule(seconds=st.sampled_from([0.5, 5, 61, 600, 4000]))
    def time_passes(self, seconds: float) -> None:
        async def advance() -> None:
            self.clock.advance(seconds)

        self.loop.run_until_complete(advance())

    @rule()
    def let_happen(self) -> None:
        self._let_happen()

    def _alive(self) -> list[FakeHost]:
        return [host for host in self.hosts.started if host.alive]

    @invariant()
    def never_two_copies_of_a_model(self) -> None:
        loaded = [host.plan.model_id for host in self._alive()]
        assert len(loaded) == len(set(loaded))

    @invariant()
    def never_over_budget(self) -> None:
        self._let_happen()
        assert self.models.used.fits(self.models.budget)
        taken = total(slot.resident.footprint for slot in self._slots() if slot.resident)
        assert taken.fits(self.models.budget)

    @invariant()
    def never_an_eviction_under_a_lease(self) -> None:
        assert not self.evicted_under_a_lease

    @invariant()
    def nothing_is_held_that_nobody_holds(self) -> None:
        waiting_or_working = sum(not task.done() for task in [*self.requests, *self.other])
        leases = sum(slot.resident.leases for slot in self._slots() if slot.resident)
        waiters = sum(len(slot.waiters) for slot in self._slots())
        assert leases + waiters <= waiting_or_working

    def teardown(self) -> None:
        try:
            if hasattr(self, "models"):
                self._every_caller_is_answered()
                self.loop.run_until_complete(self.models.close())
                assert self._alive() == []
                assert self.models.used == Footprint()
        finally:
            self._end()

    def _end(self) -> None:
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=1))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _every_caller_is_answered(self) -> None:
        if self.hosts.starting:
            self.release_starts()
        for _ in range(100):
            self.finish_runs()
            if all(task.done() for task in [*self.requests, *self.other]):
                break
        for task in [*self.requests, *self.other]:
            assert task.done(), "a caller was left without an answer"
            if not task.cancelled() and (error := task.exception()):
                assert isinstance(error, ServiceError | ZeroDivisionError)
        assert not self.models._scheduler._queue
        assert not any(slot.resident.leases for slot in self._slots() if slot.resident)


EXAMPLES = int(os.environ.get("HOMELAB_AI_TEST_EXAMPLES", "200"))
Registry.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRegistry = pytest.mark.timeout(EXAMPLES)(Registry.TestCase)
