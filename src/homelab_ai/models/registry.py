"""The owner of model state: the models on offer, and all that can be done with them.

It puts the parts of this room together: the inventory says which models there are, each of them has a slot, the
scheduler decides which of the slots hold a process, and downloads see to the files.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from homelab_ai.looks import look
from homelab_ai.models import memory, refusals
from homelab_ai.models.catalogue import Catalogue, Kind, Model
from homelab_ai.models.claims import Room
from homelab_ai.models.clock import Clock
from homelab_ai.models.files import places
from homelab_ai.models.files.downloads import Downloads, Progress
from homelab_ai.models.footprints import Footprints
from homelab_ai.models.hosts.host import Host, StartHost
from homelab_ai.models.inventory import Entry, Inventory
from homelab_ai.models.launcher import Launcher
from homelab_ai.models.lease import Lease
from homelab_ai.models.memory import Footprint
from homelab_ai.models.observer import Nobody, Observer
from homelab_ai.models.residency import PINNED, Slot, Snapshot
from homelab_ai.models.scheduler import Scheduler
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings
from homelab_ai.state import State


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
        observer: Observer | None = None,
    ) -> None:
        """`engines` names the engine module of each kind of model by its dotted path.

        `state` remembers footprints, and what is changed of the models on offer. `observer` is told what happens.
        """
        self._inventory = Inventory(settings, state)
        self._resources = settings.resources
        self._clock = clock
        self._observer = observer or Nobody()
        self._models_dir = settings.models_dir.absolute()  # while the working directory is sure to be there
        self._downloads = Downloads(start_host, self._models_dir, clock)
        launcher, footprints = Launcher(settings, engines, start_host), Footprints(settings, state)
        self._scheduler = Scheduler(settings, launcher, self._downloads, footprints, clock, observer=observer)
        self._slots: dict[str, Slot] = {}
        """Of each model on offer, by id."""
        self._removals: set[asyncio.Task[int]] = set()
        self._requests = 0
        """How many there are now, at work or waiting."""
        self._follow_inventory()

    @property
    def catalogue(self) -> Catalogue:
        """The models on offer now."""
        return self._inventory.catalogue

    @property
    def budget(self) -> Footprint:
        """What all loaded models, and whatever else has room of it, may take together."""
        return self._scheduler.budget

    @property
    def used(self) -> Footprint:
        """What is taken of it now, by models and by others."""
        return self._scheduler.used

    @property
    def room(self) -> Room:
        """Where others have their part of that budget: all that is not a model and takes memory."""
        return self._scheduler.claims

    @property
    def most_requests(self) -> int:
        """How many there may be at once, at work or waiting, before others are refused."""
        return self._resources.max_concurrent_requests + self._resources.max_queued_requests

    @property
    def queued_requests(self) -> int:
        """How many requests wait for a load, or for their first run."""
        return sum(slot.queued_requests for slot in self._slots.values())

    def snapshot(self, model: Model) -> Snapshot:
        """Return what is known of the model now."""
        return self._slot(model).snapshot(self._clock.time(), self._downloads.of(model))

    @contextlib.asynccontextmanager
    async def lease(self, model: Model, timing: Timing | None = None) -> AsyncIterator[Lease]:
        """Hold the model for one request: from its first run to the end, it is not unloaded.

        Nothing is loaded before the first run. `timing` is told where the time of the request goes. Raises
        `ResourceExhausted` when too many requests wait already.
        """
        slot = self._slot(model)
        self._check_queue(slot)
        slot.requests += 1
        self._requests += 1
        lease, started = Lease(self._scheduler, slot, timing), self._clock.time()
        try:
            yield lease
            if lease.has_begun:  # else nothing was left to ask it, such as of images that could not be read
                self._observer.answered(model.id, self._clock.time() - started)
        finally:
            self._requests -= 1
            lease.give_back()

    async def load(self, model: Model) -> None:
        """Have the model loaded, even if it has failed a moment ago. Raises as a run does."""
        slot = self._slot(model)
        slot.forgive()
        self._scheduler.give_back(slot, await self._scheduler.take(slot))

    async def unload(self, model: Model) -> None:
        """Unload the model, once the requests that use it have been answered, and wait until its memory is back.

        Later requests load it again, in a new process.
        """
        await self._scheduler.unload(self._slot(model))

    def pull(self, model: Model) -> None:
        """Have the model downloaded from the hub, as it is there now; one under way goes on.

        Raises `Conflict` for a model that is a folder of this machine.
        """
        self._slot(model).forgive()  # a download that failed is tried again by this
        if places.must_be_a_folder(model.settings.hf_model):
            raise refusals.nothing_to_download(model)
        self._downloads.start(model)

    def follow_pull(self, model: Model) -> AsyncIterator[Progress]:
        """Yield how far the download of the model is, with every change; nothing if there was none."""
        return self._downloads.follow(model)

    async def add(self, kind: Kind, entry: Entry) -> Model:
        """Offer one model more, from now on and after a restart.

        Raises `InvalidRequest` for a folder that models may not be added from, `Conflict` when a name is taken, and
        `ResourceExhausted` when it cannot be kept.
        """
        hf_model = await look(self._inventory.placed, entry.hf_model)
        model = self._inventory.add(kind, entry.model_copy(update={"hf_model": hf_model}))
        self._follow_inventory()
        return model

    def follow(self, settings: Settings) -> None:
        """Go by these settings from now on: the models, the budget, the keep-alive, how many requests may wait.

        A model whose process would be another one now is unloaded once the requests that use it have been answered,
        and loaded as it is wanted with the next one. So is one that is disabled.
        """
        self._resources = settings.resources
        self._scheduler.budget = memory.budget(settings.resources)
        before = {model.id: model for model in self.catalogue}
        self._inventory.follow(settings.models)
        for model_id in [model.id for model in self.catalogue if model.id in before]:
            if before[model_id].kind != self.catalogue.get(model_id).kind:
                self._scheduler.dismiss(self._slots.pop(model_id))
        self._follow_inventory()
        for model in self.catalogue:
            former, slot = before.get(model.id), self._slots[model.id]
            if former and former.process != model.process:
                self._scheduler.renew(slot)
            elif slot.resident and not model.settings.enabled:
                self._scheduler.drain(slot.resident, "asked")
        self._scheduler.make_room()

    def change(self, model: Model, changes: Mapping[str, Any]) -> Model:
        """Change settings of a model that leave its process as it is: `default`, `enabled`, `keep_alive_minutes`.

        One that is disabled is unloaded once the requests that use it have been answered. Raises `InvalidRequest` or
        `ResourceExhausted`.
        """
        slot = self._slot(model)
        self._inventory.change(model, changes)
        self._follow_inventory()
        if slot.resident and not slot.model.settings.enabled:
            self._scheduler.drain(slot.resident, "asked")
        return slot.model

    async def remove(self, model: Model, *, purge: bool = False) -> int:
        """Offer the model no longer, and wait until its memory is back. `purge` removes what was downloaded of it, too.

        Requests that use it are answered first; those that wait for it to be loaded get `ModelNotFound`. Returns how
        many bytes of files were removed. Raises `Conflict` where another model has the same files, or
        `ResourceExhausted`, and nothing has changed then. When it is cancelled, the rest is done all the same.
        """
        slot = self._slot(model)
        if purge and (others := [other for other in self._lost_with_files_of(model) if other.id != model.id]):
            raise refusals.files_in_use(model, others[0])
        self._inventory.remove(model)
        self._follow_inventory()
        wanted = any(self._downloads.are_one(model, other) for other in self.catalogue)
        ending = [] if wanted else self._downloads.cancel(model)
        removal = asyncio.create_task(self._carry_out_removal(slot, ending, purge=purge))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        return await asyncio.shield(removal)

    async def _carry_out_removal(self, slot: Slot, ending: list[asyncio.Task[None]], *, purge: bool) -> int:
        if ending:
            await asyncio.wait(ending)
        if slot.loading:
            await asyncio.wait([slot.loading])
        if slot.resident:
            await slot.resident.host.ended()
        if not purge or self._lost_with_files_of(slot.model):  # one has been added meanwhile
            return 0
        return await self._downloads.purge(slot.model)

    def _lost_with_files_of(self, model: Model) -> list[Model]:
        lost = partial(places.needs_download_of, hf_model=model.settings.hf_model, models_dir=self._models_dir)
        return [other for other in self.catalogue if lost(other.settings.hf_model)]

    async def close(self) -> None:
        """Stop every host and wait until all are gone. Nothing is started any more."""
        closing = asyncio.create_task(self._scheduler.close())
        await self._downloads.close()
        await closing
        if self._removals:
            await asyncio.wait(self._removals)

    def _slot(self, model: Model) -> Slot:
        if slot := self._slots.get(model.id):
            return slot
        raise refusals.removed(model.id)  # since the caller has looked it up

    def _follow_inventory(self) -> None:
        """Have a slot for each model on offer, and let those go that no longer are."""
        offered = {model.id: model for model in self.catalogue}
        for model_id in [model_id for model_id in self._slots if model_id not in offered]:
            self._scheduler.dismiss(self._slots.pop(model_id))
        for model in offered.values():
            if model.id not in self._slots:
                self._slots[model.id] = Slot(model)
                self._scheduler.slots.append(self._slots[model.id])
            self._slots[model.id].model = model
            self._slots[model.id].keep_alive_seconds = self._keep_alive_seconds(model)
        self._scheduler.settle()

    def _check_queue(self, slot: Slot) -> None:
        if self._requests < self.most_requests:
            return
        backlog = slot.resident.batcher.backlog_seconds if slot.resident else slot.load_seconds or 0
        seconds = min(backlog, self._resources.request_timeout_seconds)
        raise refusals.too_many_requests(slot.model.id, self._requests, seconds)

    def _keep_alive_seconds(self, model: Model) -> float:
        minutes = model.settings.keep_alive_minutes
        if minutes is None:
            minutes = self._resources.model_keep_alive_minutes
        return PINNED if minutes < 0 else 60 * minutes
