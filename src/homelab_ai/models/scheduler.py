"""The scheduler: which of the models is loaded, which has to go, and who may use it meanwhile.

A request holds a *lease* on the model it uses. A model without a resident host is loaded when a lease is asked for,
within the memory budget; one that nobody has leased goes when its keep-alive ends, or when another needs its room.

Everything here happens on the event loop and is decided without waiting, so there are no locks. Whatever happens (a
lease given back, a host gone, a load ended, a timer) ends in `settle`, which looks at the whole and decides what is to
be done next. Downloading, starting, measuring and stopping take time and are done in tasks, which report back here.
"""

import asyncio
import contextlib
import contextvars
import logging
import math
from collections.abc import Coroutine
from functools import partial
from typing import Any

from homelab_ai.errors import ServiceError
from homelab_ai.models import memory, refusals
from homelab_ai.models.batcher import Batcher
from homelab_ai.models.claims import Claims
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.files.downloads import DownloadFailed, Downloads
from homelab_ai.models.footprints import Footprints
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed
from homelab_ai.models.launcher import Launcher
from homelab_ai.models.memory import Footprint
from homelab_ai.models.observer import Nobody, Observer, WhyUnloaded
from homelab_ai.models.residency import Resident, Slot, who_goes
from homelab_ai.models.turns import Turns
from homelab_ai.settings import Settings

log = logging.getLogger(__name__)

_MEASURED_AGAIN_AFTER_SECONDS = 10.0


class Scheduler:
    """Loads and unloads the models whose slots it is given."""

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        downloads: Downloads,
        footprints: Footprints,
        clock: Clock,
        *,
        observer: Observer | None = None,
    ) -> None:
        self.slots: list[Slot] = []
        """Of each model on offer, and of those that are no longer and have a process yet."""
        self.budget = memory.budget(settings.resources)
        """What all loaded models together may take."""
        self._batching = settings.batching
        self._request_timeout_seconds = settings.resources.request_timeout_seconds
        self._launcher = launcher
        self._downloads = downloads
        self._footprints = footprints
        self._clock = clock
        self._observer = observer or Nobody()
        self._queue: list[Slot] = []
        """Models that are to be loaded and wait for room, in the order in which they were asked for."""
        self.claims = Claims(clock, self.make_room)
        """What takes memory beside models."""
        self._turns = Turns(settings.resources.max_concurrent_requests, clock)
        self._timer: Timer | None = None
        self._timer_due = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def used(self) -> Footprint:
        """What is taken of the budget now, by hosts until they have ended and by loads as they are expected to be."""
        return memory.total(slot.held for slot in self.slots) + self.claims.held

    async def unload(self, slot: Slot) -> None:
        """Unload the model once the requests that use it have been answered, and wait until its memory is back."""
        if slot.loading:
            slot.drain_when_loaded = True
            await asyncio.wait([slot.loading])
        if resident := slot.resident:
            self.drain(resident, "asked")
            await resident.host.ended()

    def renew(self, slot: Slot) -> None:
        """Have the next request answered by a new process, since the model is to run otherwise now."""
        slot.forgive()
        slot.prepared = False
        if slot.preparing:  # perhaps of other files; those who wait for it wait on
            slot.preparing.cancel()
        slot.drain_when_loaded = slot.loading is not None
        if slot.resident:
            self.drain(slot.resident, "asked")

    def make_room(self) -> None:
        """Let as much go as it takes to be within the budget, when that or what is taken of it has changed."""
        self._let_go(self.used.missing(self.budget), overdrawn=True)
        self.settle()

    def dismiss(self, slot: Slot) -> None:
        """Give the model to nobody any more. Those who wait for it are told; those who have it keep it to their end."""
        slot.removed = True
        slot.refuse(refusals.removed(slot.model.id))
        for task in filter(None, (slot.loading, slot.preparing)):
            task.cancel()
        if slot.resident:
            self.drain(slot.resident, "asked")

    async def close(self) -> None:
        """Stop every host and wait until all are gone. Nothing is started any more."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        for slot in self.slots:
            slot.refuse(refusals.closed())
            if not slot.removed:  # or they are cancelled, and a second time would interrupt the wait for a process
                for task in filter(None, (slot.loading, slot.preparing)):
                    task.cancel()
            if slot.resident:
                self._stop(slot.resident)
        await self.claims.close(refusals.closed())
        while self._tasks:
            await asyncio.wait(self._tasks)

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
            self._check_download(slot)
        waiter: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        slot.waiters.append(waiter)
        if not slot.loading and slot not in self._queue:  # one load, however many wait for it
            self._queue.append(slot)
        self.settle()
        try:
            return await waiter
        except asyncio.CancelledError:
            # A caller that gives up must not take the load from the others, nor keep what it was just given.
            with contextlib.suppress(ValueError):
                slot.waiters.remove(waiter)
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.give_back(slot, waiter.result())
            self.settle()
            raise

    def give_back(self, slot: Slot, resident: Resident) -> None:
        """Give one lease back."""
        resident.leases -= 1
        resident.last_used = self._clock.time()
        if resident.draining:
            self._stop_if_free(resident)
        elif resident.last_used - resident.measured_at >= _MEASURED_AGAIN_AFTER_SECONDS:
            resident.measured_at = resident.last_used
            self._task(self._measure_again(slot, resident))
        self.settle()

    def _check_can_be_loaded(self, slot: Slot) -> None:
        if not self._launcher.has_engine(slot.model):
            raise refusals.no_engine(slot)
        # What failed a moment ago is refused at once: each try costs seconds of a whole core.
        left = slot.retry_at - self._clock.time()
        if left > 0:
            raise refusals.load_failed(slot, left)

    def _check_download(self, slot: Slot) -> None:
        """Refuse at once whom the download would not let answer in time."""
        progress = self._downloads.of(slot.model)
        if slot.preparing and progress and (progress.seconds_left or 0) > self._request_timeout_seconds:
            raise refusals.still_downloading(slot, progress)

    # --- decisions

    def settle(self) -> None:
        """Look at the whole, and start what is to be done next."""
        if self._closed:
            return
        now = self._clock.time()
        self._forget_removed()
        for slot in self.slots:
            if slot.resident and slot.unload_at is not None and slot.unload_at <= now:
                log.info("model %s is unloaded, unused for %.4g s", slot.model.id, now - slot.resident.last_used)
                self.drain(slot.resident, "idle")
        if self._admit_claims():
            for slot in list(self._queue):
                if not self._admit(slot):
                    break
        self._set_timer(now)

    def _forget_removed(self) -> None:
        """Let slots go whose model is no longer on offer, once their last process has ended."""
        gone = [slot for slot in self.slots if slot.removed and not slot.resident and not slot.loading]
        self.slots = [slot for slot in self.slots if slot not in gone]
        kept = {slot.model.id for slot in self.slots}  # one of the same name may have been added meanwhile
        for model_id in {slot.model.id for slot in gone} - kept:
            self._observer.removed(model_id)

    def _admit_claims(self) -> bool:
        """Grant what there is room for. Returns whether models may be looked at."""
        lacking = self.claims.admit(self.budget - self.used, self._unpinned, self._refuse_claim)
        self._let_go(lacking)
        return lacking == Footprint()

    def _admit(self, slot: Slot) -> bool:
        """Load the first model in the queue if it may be. Returns whether those behind it may be looked at."""
        if not slot.waiters:  # they have all gone
            self._queue.remove(slot)
            return True
        if any(other.resident or other.loading for other in self.slots if other.same_model(slot)):
            return True  # a process that has not ended yet: there are never two
        need = self._footprints.expected(slot.model)
        if not slot.prepared or not need:
            slot.preparing = slot.preparing or self._task(self._prepare(slot), slot)
            return True
        room = self.budget - self.used
        if need.fits(room):
            self._queue.remove(slot)
            slot.prepared, slot.reserved = False, need
            slot.loading = self._task(self._load(slot), slot)
            return True
        if not need.fits(self._unpinned):
            self._queue.remove(slot)
            what, details = f"Model {slot.model.id!r}", {"model_id": slot.model.id}
            slot.refuse(refusals.cannot_fit(what, need, self.budget, self._pinned, details))
            return True
        self._let_go(need.missing(room))
        return False  # in the order of arrival, or a large model would wait for ever behind small ones

    def _let_go(self, missing: Footprint, newcomer: Resident | None = None, *, overdrawn: bool = False) -> None:
        """Let as much go as it takes to have so much back."""
        missing = self.claims.let_go(missing)
        for slot in who_goes(self.slots, missing, newcomer, overdrawn=overdrawn):
            log.info("model %s has to go, to make room", slot.model.id)
            assert slot.resident
            self.drain(slot.resident, "room")

    @property
    def _pinned(self) -> list[Slot]:
        """The models that make no room for others."""
        return [slot for slot in self.slots if slot.pinned and slot.resident and not slot.resident.draining]

    @property
    def _unpinned(self) -> Footprint:
        """What there could be for others, once all that may go has gone."""
        return self.budget - memory.total(slot.held for slot in self._pinned)

    def _refuse_claim(self, what: str, need: Footprint) -> ServiceError:
        return refusals.cannot_fit(what, need, self.budget, self._pinned, {})

    def drain(self, resident: Resident, why: WhyUnloaded) -> None:
        """Take it out of service, and stop it when nobody has a lease on it."""
        resident.draining = True
        resident.goes_because = resident.goes_because or why
        self._stop_if_free(resident)

    def _stop_if_free(self, resident: Resident) -> None:
        if not resident.leases:
            self._stop(resident)

    def _stop(self, resident: Resident) -> None:
        if not resident.stopping:
            resident.stopping = True
            self._task(resident.host.stop())

    def _set_timer(self, now: float) -> None:
        """Come back when the next keep-alive ends. A timer that comes too early does no harm."""
        due = min((slot.unload_at for slot in self.slots if slot.unload_at is not None), default=math.inf)
        if due < self._timer_due:
            if self._timer:
                self._timer.cancel()
            self._timer, self._timer_due = self._clock.call_later(max(0.0, due - now), self._on_timer), due

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        contextvars.Context().run(self.settle)  # not in that of the request that happened to set it

    # --- what takes time

    def _task(self, work: Coroutine[Any, Any, None], slot: Slot | None = None) -> asyncio.Task[None]:
        # With a context of its own: it outlives the request that happened to start it, so what it logs must not carry
        # that request's id.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if slot:
            task.add_done_callback(partial(self._ended, slot))
        return task

    def _ended(self, slot: Slot, task: asyncio.Task[None]) -> None:
        """Go on after what was done for a model. What is cancelled before it has begun can take nothing back itself."""
        if task is slot.preparing:
            slot.preparing = None
        if task is slot.loading:
            slot.loading, slot.reserved = None, Footprint()
        self.settle()

    async def _prepare(self, slot: Slot) -> None:
        """Have the model's files on this machine, and an idea of what it takes."""
        try:
            await self._downloads.have(slot.model)
            if not self._footprints.expected(slot.model):
                await self._footprints.estimate(slot.model)
            slot.prepared = True
        except DownloadFailed as failure:
            self._fail(slot, str(failure))
        except OSError as error:
            self._fail(slot, f"its files cannot be looked at: {error.strerror or type(error).__name__}")
        except Exception as fault:  # noqa: BLE001 - it is those who wait that are to know
            slot.refuse(fault)

    async def _load(self, slot: Slot) -> None:
        model, started = slot.model, self._clock.time()
        log.info("model %s is being loaded", model.id)
        try:
            resident = await self._start(slot)
        except (HostDied, HostLoadFailed) as failure:
            self._fail(slot, str(failure))
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
            self._observer.loaded(model.id, slot.load_seconds)
            log.info("model %s is loaded (%.1f s)", model.id, slot.load_seconds)
            self._task(self._watch(slot, resident))
            self._footprints.measured(slot.model, resident.footprint)
        finally:
            slot.loading, slot.reserved = None, Footprint()
        self._welcome(slot)

    def _fail(self, slot: Slot, cause: str) -> None:
        """Take note of a load that failed, and tell those who wait for it."""
        self._observer.load_failed(slot.model.id)
        slot.refuse(refusals.load_failed(slot, slot.failed(cause, self._clock.time())))

    def _welcome(self, slot: Slot) -> None:
        """Give a resident that has just come to those who wait for it, if there is room for it as it turned out."""
        if resident := slot.resident:
            self._let_go(self.used.missing(self.budget), resident, overdrawn=True)
            if resident.draining:  # larger than it was thought to be: they wait for more room, or are refused
                self._queue.insert(0, slot)
            else:
                slot.give(resident)
                if slot.drain_when_loaded or not slot.model.settings.enabled:
                    self.drain(resident, "asked")
        slot.drain_when_loaded = False
        self.settle()

    async def _start(self, slot: Slot) -> Resident:
        host = await self._launcher.launch(slot.model)
        try:
            footprint = await host.footprint() or slot.reserved
        except BaseException:
            await host.stop()
            raise
        now = self._clock.time()
        batcher = Batcher(host, self._batching, self._turns, self._clock, self._observer)
        return Resident(host, batcher, footprint, last_used=now, measured_at=now)

    async def _watch(self, slot: Slot, resident: Resident) -> None:
        """Take note of the end of a host, whoever ended it."""
        await resident.host.ended()
        resident.batcher.close()
        slot.resident = None
        if not resident.stopping:
            self._observer.host_died(slot.model.id)
        if why := resident.goes_because if resident.stopping else "failed":
            self._observer.unloaded(slot.model.id, why)
        self.settle()

    async def _measure_again(self, slot: Slot, resident: Resident) -> None:
        """A host that has worked is larger than one that has just been loaded."""
        footprint = await resident.host.footprint()
        if footprint and slot.resident is resident:
            resident.footprint = footprint
            # One peak must not keep a model out for ever that fits when it is fresh.
            self._footprints.measured(slot.model, footprint, for_good=footprint.fits(self.budget))
            self._let_go(self.used.missing(self.budget), overdrawn=True)
            self.settle()
