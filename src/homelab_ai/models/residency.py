"""One model's place in the registry: what it is doing, the host that holds it, and who waits for one.

Only facts and what follows from them; `registry` acts on it.
"""

import asyncio
import collections
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from homelab_ai.models.batcher import Batcher
from homelab_ai.models.catalogue import Model
from homelab_ai.models.files.downloads import Progress
from homelab_ai.models.hosts.host import Host
from homelab_ai.models.memory import Footprint, total
from homelab_ai.models.observer import WhyUnloaded

ModelState = Literal["available", "downloading", "loading", "ready", "draining", "failed"]

LOADED: frozenset[ModelState] = frozenset({"ready", "draining"})
"""States in which there is a process with the model in it."""

PINNED = -1.0
"""The keep-alive, in seconds, of a model that stays."""

_FIRST_BACK_OFF_SECONDS = 5.0
_LONGEST_BACK_OFF_SECONDS = 300.0


@dataclass(frozen=True)
class Snapshot:
    """What is known of one model at this moment."""

    model: Model
    state: ModelState
    loads: int
    """How often its host has been started."""
    load_seconds: float | None
    """How long the last start took."""
    requests: int
    """How many requests have used it."""
    active_requests: int
    """How many use it now, or wait for it to be loaded."""
    queued_requests: int
    """How many of these wait yet, for it to be loaded or for their first run."""
    footprint: Footprint
    """What it takes now; nothing when it is not loaded."""
    keep_alive_seconds: float
    idle_seconds: float | None
    """How long it has been loaded without a request."""
    unloads_in_seconds: float | None
    """When it is unloaded if nobody asks for it."""
    described: Mapping[str, Any]
    """What the engine said of the loaded model; stays known after the host has gone."""
    failure: str | None
    """Why it is in state `failed`."""
    retry_in_seconds: float | None
    """When a load is tried again at the earliest, in state `failed`."""
    download: Progress | None
    """How far its download is, or how the last one has ended since the start of the service."""


@dataclass(eq=False)
class Resident:
    """A host with its model in it, and what it holds of the budget until its process has ended."""

    host: Host
    batcher: Batcher
    footprint: Footprint
    last_used: float
    """When it was loaded, or its last lease given back."""
    measured_at: float
    leases: int = 0
    draining: bool = False
    """It takes no new lease, and goes when the last one is given back."""
    stopping: bool = False
    goes_because: WhyUnloaded | None = None

    @property
    def takes_leases(self) -> bool:
        """Whether a request may have it."""
        return self.host.alive and not self.draining


@dataclass(eq=False)
class Slot:
    """One model, loaded or not."""

    model: Model
    keep_alive_seconds: float = PINNED
    removed: bool = False
    """Whether the model is no longer on offer."""
    preparing: asyncio.Task[None] | None = None
    """Sees to it that its files are here, and finds out what it may take."""
    prepared: bool = False
    """Whether that has been done for the next load."""
    resident: Resident | None = None
    loading: asyncio.Task[None] | None = None
    reserved: Footprint = field(default_factory=Footprint)
    """What the load under way may take."""
    drain_when_loaded: bool = False
    waiters: collections.deque[asyncio.Future[Resident]] = field(default_factory=collections.deque)
    """Who waits for a resident, in the order of arrival."""
    loads: int = 0
    load_seconds: float | None = None
    requests: int = 0
    described: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    failures: int = 0
    """Failed loads since the last one that succeeded."""
    retry_at: float = -math.inf

    @property
    def pinned(self) -> bool:
        """Whether it stays loaded once it is."""
        return self.keep_alive_seconds == PINNED

    def same_model(self, other: "Slot") -> bool:
        """Whether it is the place of the same model, perhaps before that was removed and added again."""
        return self.model.id.casefold() == other.model.id.casefold()

    @property
    def held(self) -> Footprint:
        """What it has of the budget: to the end of its process, and from the start of its load."""
        return self.reserved + (self.resident.footprint if self.resident else Footprint())

    @property
    def queued_requests(self) -> int:
        """How many requests wait for it to be loaded, or for their first run."""
        return len(self.waiters) + (self.resident.batcher.queued if self.resident else 0)

    @property
    def unload_at(self) -> float | None:
        """When its keep-alive ends; None while it is in use, on its way out, or pinned."""
        if not self.resident or not self.resident.takes_leases or self.resident.leases or self.pinned:
            return None
        return self.resident.last_used + self.keep_alive_seconds

    def failed(self, cause: str, now: float) -> float:
        """Take note of a failed load. Returns the seconds until the next one may be tried."""
        back_off: float = min(_FIRST_BACK_OFF_SECONDS * 2**self.failures, _LONGEST_BACK_OFF_SECONDS)
        self.failure, self.failures, self.retry_at = cause, self.failures + 1, now + back_off
        return back_off

    def forgive(self) -> None:
        """Let the next load be tried at once."""
        self.failures, self.retry_at = 0, -math.inf

    def give(self, resident: Resident) -> None:
        """Give a lease to each who waits. They are counted before anybody wakes up: nothing can come in between."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                resident.leases += 1
                waiter.set_result(resident)

    def refuse(self, error: BaseException) -> None:
        """Answer all who wait with this error."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def state(self, download: Progress | None) -> ModelState:
        """The one word for it."""
        if self.resident and self.resident.host.alive:
            return "draining" if self.resident.draining else "ready"
        if download and download.state == "running":
            return "downloading"
        if self.loading or self.waiters:
            return "loading"
        return "failed" if self.failure else "available"

    def snapshot(self, now: float, download: Progress | None) -> Snapshot:
        """Return what is known of it, where its download is so far."""
        resident, state, unload_at = self.resident, self.state(download), self.unload_at
        leases = resident.leases if resident else 0
        idle = resident and resident.takes_leases and not leases
        return Snapshot(
            model=self.model,
            state=state,
            loads=self.loads,
            load_seconds=self.load_seconds,
            requests=self.requests,
            active_requests=leases + len(self.waiters),
            queued_requests=self.queued_requests,
            footprint=resident.footprint if resident else Footprint(),
            keep_alive_seconds=self.keep_alive_seconds,
            idle_seconds=now - resident.last_used if resident and idle else None,
            unloads_in_seconds=None if unload_at is None else max(0.0, unload_at - now),
            described=self.described,
            failure=self.failure if state == "failed" else None,
            retry_in_seconds=max(0.0, self.retry_at - now) if state == "failed" else None,
            download=download,
        )


def who_goes(
    slots: Iterable[Slot], missing: Footprint, newcomer: Resident | None = None, *, overdrawn: bool = False
) -> list[Slot]:
    """Choose whose residents have to go for so much to come back: idle ones first, the longest unused first.

    Where these are not enough, one that is in use takes no new lease, and goes when the last is given back. Its own
    new callers wait behind the model that needs the room, so that two models that do not fit together take turns.
    Pinned models make no room for others; but where more is taken than allowed (`overdrawn`) they go too, last of all.
    """
    holders = {slot.resident: slot for slot in slots if slot.resident}
    missing = missing.missing(total(resident.footprint for resident in holders if resident.draining))

    def stays_longest(resident: Resident) -> tuple[bool, bool, float]:
        return holders[resident].pinned and resident is not newcomer, resident.leases > 0, resident.last_used

    going = []
    for resident in sorted(holders, key=stays_longest):
        may_go = overdrawn or not holders[resident].pinned
        if may_go and not resident.draining and resident.footprint.overlaps(missing):
            going.append(holders[resident])
            missing = missing.missing(resident.footprint)
    return going
