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
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from homelab_ai.models import memory, refusals
from homelab_ai.models.batcher import Batcher
from homelab_ai.models.catalogue import Catalogue, Kind, Model
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.footprints import Footprints
from homelab_ai.models.host import Host, HostDied, HostLoadFailed
from homelab_ai.models.inventory import Entry, Inventory
from homelab_ai.models.launcher import Launcher, StartHost
from homelab_ai.models.lease import Lease
from homelab_ai.models.memory import Footprint
from homelab_ai.models.residency import PINNED, Resident, Slot, Snapshot, who_goes
from homelab_ai.models.turns import Turns
from homelab_ai.settings import Settings
from homelab_ai.state import State

log = logging.getLogger(__name__)

_MEASURED_AGAIN_AFTER_SECONDS = 10.0


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
        """`engines` names the engine module of each kind of model by its dotted path.

        `state` remembers footprints, and what is changed of the models on offer.
        """
        self._inventory = Inventory(settings, state)
        self.budget = memory.budget(settings.resources)
        """What all loaded models together may take."""
        self._settings = settings
        self._launcher = Launcher(settings, engines, start_host)
        self._clock = clock
        self._footprints = Footprints(settings, state)
        self._slots: dict[str, Slot] = {}
        """Of each model on offer, by id."""
        self._leaving: list[Slot] = []
        """Of models that are no longer on offer and have a process yet."""
        self._queue: list[Slot] = []
        """Models that are to be loaded and wait for room, in the order in which they were asked for."""
        self._turns = Turns(settings.resources.max_concurrent_requests)
        self._requests = 0
        """How many there are now, at work or waiting."""
        self._timer: Timer | None = None
        self._timer_due = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._follow_inventory()

    @property
    def catalogue(self) -> Catalogue:
        """The models on offer now."""
        return self._inventory.catalogue

    @property
    def used(self) -> Footprint:
        """What is taken of the budget now, by hosts until they have ended and by loads as they are expected to be."""
        return memory.total(slot.held for slot in self._with_a_process())

    def snapshot(self, model: Model) -> Snapshot:
        """Return what is known of the model now."""
        return self._slot(model).snapshot(self._clock.time())

    @contextlib.asynccontextmanager
    async def lease(self, model: Model) -> AsyncIterator[Lease]:
        """Hold the model for one request: from its first run to the end, it is not unloaded.

        Nothing is loaded before the first run. Raises `ResourceExhausted` when too many requests wait already.
        """
        slot = self._slot(model)
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
        slot = self._slot(model)
        slot.forgive()
        self.give_back(slot, await self.take(slot))

    async def unload(self, model: Model) -> None:
        """Unload the model, once the requests that use it have been answered, and wait until its memory is back.

        Later requests load it again, in a new process.
        """
        slot = self._slot(model)
        if slot.loading:
            slot.drain_when_loaded = True
            await asyncio.wait([slot.loading])
        if resident := slot.resident:
            self._drain(resident)
            await resident.host.ended()

    async def add(self, kind: Kind, entry: Entry) -> Model:
        """Offer one model more, from now on and after a restart.

        Raises `InvalidRequest` for a folder that models may not be added from, `Conflict` when a name is taken, and
        `ResourceExhausted` when it cannot be kept.
        """
        hf_model = await asyncio.to_thread(self._inventory.placed, entry.hf_model)
        model = self._inventory.add(kind, entry.model_copy(update={"hf_model": hf_model}))
        self._follow_inventory()
        return model

    def change(self, model: Model, changes: Mapping[str, Any]) -> Model:
        """Change settings of a model that leave its process as it is: `default`, `enabled`, `keep_alive_minutes`.

        One that is disabled is unloaded once the requests that use it have been answered. Raises `InvalidRequest` or
        `ResourceExhausted`.
        """
        slot = self._slot(model)
        self._inventory.change(model, changes)
        self._follow_inventory()
        if not slot.model.settings.enabled:
            slot.drain_when_loaded = slot.loading is not None
            if slot.resident:
                self._drain(slot.resident)
        return slot.model

    async def remove(self, model: Model) -> None:
        """Offer the model no longer, and wait until its memory is back.

        Requests that use it are answered first; those that wait for it to be loaded get `ModelNotFound`. Raises
        `ResourceExhausted`, and nothing has changed then.
        """
        slot = self._slot(model)
        self._inventory.remove(model)
        self._follow_inventory()
        if slot.loading:
            await asyncio.wait([slot.loading])
        if slot.resident:
            await slot.resident.host.ended()

    async def close(self) -> None:
        """Stop every host and wait until all are gone. Nothing is started any more."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        for slot in [*self._slots.values(), *self._leaving]:
            slot.refuse(refusals.closed())
            for task in filter(None, (slot.loading, slot.estimating)):
                task.cancel()
            if slot.resident:
                self._stop(slot.resident)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- models on offer

    def _slot(self, model: Model) -> Slot:
        if slot := self._slots.get(model.id):
            return slot
        raise refusals.removed(model.id)  # since the caller has looked it up

    def _with_a_process(self) -> list[Slot]:
        return [slot for slot in [*self._slots.values(), *self._leaving] if slot.resident or slot.loading]

    def _follow_inventory(self) -> None:
        """Have a slot for each model on offer, and let those go that no longer are."""
        offered = {model.id: model for model in self.catalogue}
        for model_id in [model_id for model_id in self._slots if model_id not in offered]:
            self._dismiss(self._slots.pop(model_id))
        for model in offered.values():
            slot = self._slots.setdefault(model.id, Slot(model))
            slot.model, slot.keep_alive_seconds = model, self._keep_alive_seconds(model)
        self._settle()

    def _dismiss(self, slot: Slot) -> None:
        slot.removed = True
        slot.refuse(refusals.removed(slot.model.id))
        self._leaving.append(slot)
        for task in filter(None, (slot.loading, slot.estimating)):
            task.add_done_callback(lambda _: self._settle())
            task.cancel()
        if slot.resident:
            self._drain(slot.resident)

    # --- leases

    async def take(self, slot: Slot) -> Resident:
        """Return a host that has the model loaded, with one more lease on it: to be given back, whatever happens."""
        if self._closed:
            raise refusals.closed()
        if slot.removed:
            raise refusals.removed(slot.model.id)
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
        seconds = min(backlog, resources.request_timeout_seconds)
        raise refusals.too_many_requests(slot.model.id, self._requests, seconds)

    def _check_can_be_loaded(self, slot: Slot) -> None:
        if not self._launcher.has_engine(slot.model):
            raise refusals.no_engine(slot)
        # What failed a moment ago is refused at once: each try costs seconds of a whole core.
        left = slot.retry_at - self._clock.time()
        if left > 0:
            raise refusals.load_failed(slot, left)

    # --- decisions

    def _settle(self) -> None:
        """Look at the whole, and start what is to be done next."""
        if self._closed:
            return
        now = self._clock.time()
        self._leaving = [slot for slot in self._leaving if slot.resident or slot.loading]
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
        former = [other.model.id.casefold() for other in self._leaving]
        if slot.resident or slot.model.id.casefold() in former:  # a process that has not ended yet: never two
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
            slot.refuse(refusals.cannot_fit(slot, need, self.budget, pinned))
            return True
        self._let_go(need.missing(room))
        return False  # in the order of arrival, or a large model would wait for ever behind small ones

    def _let_go(self, missing: Footprint, newcomer: Resident | None = None, *, overdrawn: bool = False) -> None:
        """Let as many models go as it takes to have so much back."""
        for slot in who_goes(self._with_a_process(), missing, newcomer, overdrawn=overdrawn):
            log.info("model %s has to go, to make room", slot.model.id)
            assert slot.resident
            self._drain(slot.resident)

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
        """Come back when the next keep-alive ends. A timer that comes too early does no harm."""
        due = min((slot.unload_at for slot in self._slots.values() if slot.unload_at is not None), default=math.inf)
        if due < self._timer_due:
            if self._timer:
                self._timer.cancel()
            self._timer, self._timer_due = self._clock.call_later(max(0.0, due - now), self._on_timer), due

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        contextvars.Context().run(self._settle)  # not in that of the request that happened to set it

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
            slot.refuse(refusals.load_failed(slot, slot.failed(str(failure), self._clock.time())))
        except asyncio.CancelledError:
            slot.refuse(refusals.closed())
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
        host = await self._launcher.launch(slot.model)
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

    def _keep_alive_seconds(self, model: Model) -> float:
        minutes = model.settings.keep_alive_minutes
        if minutes is None:
            minutes = self._settings.resources.model_keep_alive_minutes
        return PINNED if minutes < 0 else 60 * minutes
