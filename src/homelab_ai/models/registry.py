"""The owner of model state: which model is loaded, which has to go, and who may use it meanwhile.

A request holds a *lease* on the model it uses. A model without a resident host is loaded when a lease is asked for,
within the memory budget; one that nobody has leased goes when its keep-alive ends, or when another needs its room.

Everything here happens on the event loop and is decided without waiting, so there are no locks. Whatever happens (a
lease given back, a host gone, a load ended, a timer) ends in `_settle`, which looks at the whole and decides what is to
be done next. Starting, measuring and stopping hosts takes time and is done in tasks, which report back here.
"""

import asyncio
import contextlib
import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from homelab_ai.errors import ModelLoadFailed, ResourceExhausted
from homelab_ai.models import memory
from homelab_ai.models.batcher import Batcher
from homelab_ai.models.catalogue import Catalogue, Kind, Model
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.footprints import Footprints
from homelab_ai.models.host import Host, HostDied, HostLoadFailed, HostPlan
from homelab_ai.models.lease import Lease
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.models.residency import PINNED, Resident, Slot, Snapshot
from homelab_ai.models.turns import Turns
from homelab_ai.settings import Settings
from homelab_ai.state import State

log = logging.getLogger(__name__)

_CLOSED = "The service is shutting down"
_RESTART_SECONDS = 5
_MEASURED_AGAIN_AFTER_SECONDS = 10.0

StartHost = Callable[[HostPlan], Awaitable[Host]]


class LocalModels:
    """Models in child processes of this process: the `Models` of a single machine."""

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[Kind, str],
        start_host: StartHost = Host.start,
        *,
        clock: Clock,
        state: State | None = None,
    ) -> None:
        """`engines` names the engine module of each kind of model by its dotted path; `state` remembers footprints."""
        self.catalogue = Catalogue(settings.models)
        self.budget = memory.budget(settings.resources)
        """What all loaded models together may take."""
        self._settings = settings
        self._engines = engines
        self._start_host = start_host
        self._clock = clock
        self._footprints = Footprints(settings, state)
        self._slots = {model.id: Slot(model, self._keep_alive_seconds(model)) for model in self.catalogue}
        self._queue: list[Slot] = []
        """Models that are to be loaded and wait for room, in the order in which they were asked for."""
        self._turns = Turns(settings.resources.max_concurrent_requests)
        self._requests = 0
        """How many there are now, at work or waiting."""
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._models_dir = str(settings.models_dir.absolute())  # while the working directory is sure to be there

    @property
    def used(self) -> Footprint:
        """What is taken of the budget now, by hosts until they have ended and by loads as they are expected to be."""
        return memory.total(slot.held for slot in self._slots.values())

    def snapshot(self, model: Model) -> Snapshot:
        """Return what is known of the model now."""
        return self._slots[model.id].snapshot(self._clock.time())

    @contextlib.asynccontextmanager
    async def lease(self, model: Model) -> AsyncIterator[Lease]:
        """Hold the model for one request: from its first run to the end, it is not unloaded.

        Nothing is loaded before the first run. Raises `ResourceExhausted` when too many requests wait already.
        """
        slot = self._slots[model.id]
        self._check_queue(slot)
        slot.requests += 1
        self._requests += 1
        lease = Lease(self, slot)
        try:
            yield lease
        finally:
            self._requests -= 1
            lease.give_back()

    async def load(self, model: Model) -> None:
        """Have the model loaded, even if it has failed a moment ago. Raises as a run does."""
        slot = self._slots[model.id]
        slot.forgive()
        self.give_back(slot, await self.take(slot))

    async def unload(self, model: Model) -> None:
        """Unload the model, once the requests that use it have been answered, and wait until its memory is back.

        Later requests load it again, in a new process.
        """
        slot = self._slots[model.id]
        if slot.loading:
            slot.drain_when_loaded = True
            await asyncio.wait([slot.loading])
        if resident := slot.resident:
            self._drain(resident)
            await resident.host.ended()

    async def close(self) -> None:
        """Stop every host and wait until all are gone. Nothing is started any more."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        for slot in self._slots.values():
            slot.refuse(_closed())
            for task in filter(None, (slot.loading, slot.estimating)):
                task.cancel()
            if slot.resident:
                self._stop(slot.resident)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- leases

    async def take(self, slot: Slot) -> Resident:
        """Return a host that has the model loaded, with one more lease on it: to be given back, whatever happens."""
        if self._closed:
            raise _closed()
        if slot.resident and slot.resident.takes_leases:
            slot.resident.leases += 1
            return slot.resident
        if not slot.loading:
            self._check_can_be_loaded(slot)
        waiter: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        slot.waiters.append(waiter)
        if not slot.loading and slot not in self._queue:  # one load, however many wait for it
            self._queue.append(slot)
        self._settle()
        try:
            return await waiter
        except asyncio.CancelledError:
            # A caller that gives up must not take the load from the others, nor keep what it was just given.
            with contextlib.suppress(ValueError):
                slot.waiters.remove(waiter)
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.give_back(slot, waiter.result())
            self._settle()
            raise

    def give_back(self, slot: Slot, resident: Resident) -> None:
        """Give one lease back."""
        resident.leases -= 1
        resident.last_used = self._clock.time()
        if resident.draining:
            self._drain(resident)
        elif not resident.leases and resident.last_used - resident.measured_at >= _MEASURED_AGAIN_AFTER_SECONDS:
            resident.measured_at = resident.last_used
            self._task(self._measure_again(slot, resident))
        self._settle()

    def _check_queue(self, slot: Slot) -> None:
        resources = self._settings.resources
        if self._requests < resources.max_concurrent_requests + resources.max_queued_requests:
            return
        backlog = slot.resident.batcher.backlog_seconds if slot.resident else slot.load_seconds or 0
        raise ResourceExhausted(
            f"{self._requests} requests are at work or waiting already, which is as many as may",
            details={"model_id": slot.model.id, "requests": self._requests},
            retry_after_seconds=max(1, math.ceil(min(backlog, resources.request_timeout_seconds))),
        )

    def _check_can_be_loaded(self, slot: Slot) -> None:
        if slot.model.kind not in self._engines:
            raise ModelLoadFailed(
                f"Model {slot.model.id!r} could not be loaded: this version has no engine for models of type "
                f"{slot.model.kind}",
                details={"model_id": slot.model.id},
            )
        # What failed a moment ago is refused at once: each try costs seconds of a whole core.
        left = slot.retry_at - self._clock.time()
        if left > 0:
            raise _load_failed(slot, left)

    # --- decisions

    def _settle(self) -> None:
        """Look at the whole, and start what is to be done next."""
        if self._closed:
            return
        now = self._clock.time()
        for slot in self._slots.values():
            if slot.resident and slot.unload_at is not None and slot.unload_at <= now:
                log.info("model %s is unloaded, unused for %.4g s", slot.model.id, now - slot.resident.last_used)
                self._drain(slot.resident)
        for slot in list(self._queue):
            if not self._admit(slot):
                break
        self._set_timer(now)

    def _admit(self, slot: Slot) -> bool:
        """Load the first model in the queue if it may be. Returns whether those behind it may be looked at."""
        if not slot.waiters:  # they have all gone
            self._queue.remove(slot)
            return True
        if slot.resident:  # its former process has not ended yet, and there are never two
            return True
        need = self._footprints.expected(slot.model)
        if not need:
            slot.estimating = slot.estimating or self._task(self._estimate(slot))
            return True
        room = self.budget - self.used
        if need.fits(room):
            self._queue.remove(slot)
            slot.reserved = need
            slot.loading = self._task(self._load(slot))
            return True
        pinned = [
            other for other in self._slots.values() if other.pinned and other.resident and not other.resident.draining
        ]
        if not need.fits(self.budget - memory.total(other.held for other in pinned)):
            self._queue.remove(slot)
            slot.refuse(self._cannot_fit(slot, need, pinned))
            return True
        self._let_go(need.missing(room))
        return False  # in the order of arrival, or a large model would wait for ever behind small ones

    def _let_go(self, missing: Footprint, newcomer: Resident | None = None, *, overdrawn: bool = False) -> None:
        """Let as many models go as it takes to have so much back: idle ones first, the longest unused first.

        Where these are not enough, one that is in use takes no new lease, and goes when the last is given back. Its own
        new callers wait behind the model that needs the room, so that two models that do not fit together take turns.
        Pinned models make no room for others; but where more is taken than allowed they go too, last of all.
        """
        slots = {slot.resident: slot for slot in self._slots.values() if slot.resident}
        missing = missing.missing(memory.total(resident.footprint for resident in slots if resident.draining))

        def stays_longest(resident: Resident) -> tuple[bool, bool, float]:
            return slots[resident].pinned and resident is not newcomer, resident.leases > 0, resident.last_used

        for resident in sorted(slots, key=stays_longest):
            may_go = overdrawn or not slots[resident].pinned
            if may_go and not resident.draining and resident.footprint.overlaps(missing):
                log.info("model %s has to go, to make room", slots[resident].model.id)
                self._drain(resident)
                missing = missing.missing(resident.footprint)

    def _drain(self, resident: Resident) -> None:
        """Take it out of service, and stop it when nobody has a lease on it."""
        resident.draining = True
        if not resident.leases:
            self._stop(resident)

    def _stop(self, resident: Resident) -> None:
        if not resident.stopping:
            resident.stopping = True
            self._task(resident.host.stop())

    def _set_timer(self, now: float) -> None:
        """Come back when the next keep-alive ends. It only ever moves away, so a timer that is set may stay."""
        due = min((slot.unload_at for slot in self._slots.values() if slot.unload_at is not None), default=None)
        if due is not None and not self._timer:
            self._timer = self._clock.call_later(max(0.0, due - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        contextvars.Context().run(self._settle)  # not in that of the request that happened to set it

    def _cannot_fit(self, slot: Slot, need: Footprint, pinned: list[Slot]) -> ResourceExhausted:
        beside = memory.total(other.held for other in pinned)
        if need.memory_bytes + beside.memory_bytes > self.budget.memory_bytes:
            kind, needed, limit = "memory", need.memory_bytes, self.budget.memory_bytes
        else:
            kind, needed, limit = "gpu_memory", need.gpu_memory_bytes, self.budget.gpu_memory_bytes
        names = [other.model.id for other in pinned]
        stay = f", and what is pinned stays loaded ({', '.join(names)})" if pinned else ""
        return ResourceExhausted(
            f"Model {slot.model.id!r} needs {needed / BYTES_PER_GB:.2f} GB, but resources.max_{kind}_gb allows "
            f"{limit / BYTES_PER_GB:.2f} GB{stay}",
            details={
                "model_id": slot.model.id,
                f"needed_{kind}_bytes": needed,
                f"max_{kind}_bytes": limit,
                "pinned_models": names,
            },
        )

    # --- what takes time

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # With a context of its own: it outlives the request that happened to start it, so what it logs must not carry
        # that request's id.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _estimate(self, slot: Slot) -> None:
        await self._footprints.estimate(slot.model)
        slot.estimating = None
        self._settle()

    async def _load(self, slot: Slot) -> None:
        model, started = slot.model, self._clock.time()
        log.info("model %s is being loaded", model.id)
        try:
            resident = await self._start(slot)
        except (HostDied, HostLoadFailed) as failure:
            slot.refuse(_load_failed(slot, slot.failed(str(failure), self._clock.time())))
        except asyncio.CancelledError:
            slot.refuse(_closed())
            raise
        except Exception as fault:  # noqa: BLE001 - it is those who wait that are to know
            slot.refuse(fault)
        else:
            slot.failure = None
            slot.forgive()
            slot.loads += 1
            slot.load_seconds = self._clock.time() - started
            slot.described = resident.host.described
            slot.resident = resident
            log.info("model %s is loaded (%.1f s)", model.id, slot.load_seconds)
            self._task(self._watch(slot, resident))
            self._footprints.measured(slot.model, resident.footprint)
        finally:
            slot.loading, slot.reserved = None, Footprint()
        self._welcome(slot)

    def _welcome(self, slot: Slot) -> None:
        """Give a resident that has just come to those who wait for it, if there is room for it as it turned out."""
        if resident := slot.resident:
            self._let_go(self.used.missing(self.budget), resident, overdrawn=True)
            if resident.draining:  # larger than it was thought to be: they wait for more room, or are refused
                self._queue.insert(0, slot)
            else:
                slot.give(resident)
                if slot.drain_when_loaded:
                    self._drain(resident)
        slot.drain_when_loaded = False
        self._settle()

    async def _start(self, slot: Slot) -> Resident:
        plan = self._plan(slot.model)
        try:
            host = await self._start_host(plan)
        except HostDied as death:
            log.warning("model %s: %s while it was being loaded; it is tried once more", slot.model.id, death)
            host = await self._start_host(plan)
        try:
            footprint = await host.footprint() or slot.reserved
        except BaseException:
            await host.stop()
            raise
        now = self._clock.time()
        batcher = Batcher(host, self._settings.batching, self._turns, self._clock)
        return Resident(host, batcher, footprint, last_used=now, measured_at=now)

    async def _watch(self, slot: Slot, resident: Resident) -> None:
        """Take note of the end of a host, whoever ended it."""
        await resident.host.ended()
        resident.batcher.close()
        slot.resident = None
        self._settle()

    async def _measure_again(self, slot: Slot, resident: Resident) -> None:
        """A host that has worked is larger than one that has just been loaded."""
        footprint = await resident.host.footprint()
        if footprint and slot.resident is resident:
            resident.footprint = footprint
            self._footprints.measured(slot.model, footprint)
            self._let_go(self.used.missing(self.budget), overdrawn=True)
            self._settle()

    def _plan(self, model: Model) -> HostPlan:
        settings = model.settings.model_dump(mode="json")
        if settings["device"] == "auto":
            settings["device"] = self._settings.resources.device
        return HostPlan(
            model_id=model.id,
            engine=self._engines[model.kind],
            options={**settings, "models_dir": self._models_dir},
            run_timeout_seconds=self._settings.resources.request_timeout_seconds,
        )

    def _keep_alive_seconds(self, model: Model) -> float:
        minutes = model.settings.keep_alive_minutes
        if minutes is None:
            minutes = self._settings.resources.model_keep_alive_minutes
        return PINNED if minutes < 0 else 60 * minutes


def _closed() -> ResourceExhausted:
    return ResourceExhausted(_CLOSED, retry_after_seconds=_RESTART_SECONDS)


def _load_failed(slot: Slot, retry_after_seconds: float) -> ModelLoadFailed:
    return ModelLoadFailed(
        f"Model {slot.model.id!r} could not be loaded: {slot.failure}",
        details={"model_id": slot.model.id},
        retry_after_seconds=math.ceil(retry_after_seconds),
    )
