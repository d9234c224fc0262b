"""The owner of model state: starts a host when its model is asked for, and knows what each model is doing.

Everything here happens on the event loop and is decided without waiting, so there are no locks. Starting and stopping
hosts takes time and is done in tasks, which report back here.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from homelab_ai.errors import InferenceFailed, ModelLoadFailed, ResourceExhausted
from homelab_ai.models.catalogue import Catalogue, Kind, Model
from homelab_ai.models.host import Answer, Host, HostDied, HostLoadFailed, HostPlan, RunFailed
from homelab_ai.settings import Settings

log = logging.getLogger(__name__)

_CLOSED = "The service is shutting down"
_RESTART_SECONDS = 5
_FIRST_BACK_OFF_SECONDS = 5.0
_LONGEST_BACK_OFF_SECONDS = 300.0
_HOSTS_FOR_ONE_RUN = 5
"""A run that others keep from being answered by killing its host gives up in the end."""

ModelState = Literal["available", "loading", "ready", "failed"]
StartHost = Callable[[HostPlan], Awaitable[Host]]


class Models(Protocol):
    """What the services need of whoever runs the models."""

    @property
    def catalogue(self) -> Catalogue:
        """The configured models."""
        ...

    async def run(self, model: Model, options: dict[str, Any], body: bytes) -> Answer:
        """Have the model's engine answer one run, loading the model first if need be."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """What is known of one model at this moment."""

    model: Model
    state: ModelState
    loads: int
    """How often its host has been started."""
    load_seconds: float | None
    """How long the last start took."""
    described: Mapping[str, Any]
    """What the engine said of the loaded model; stays known after the host has gone."""
    failure: str | None
    """Why it is in state `failed`."""


class _Slot:
    """One model's place in the registry."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.host: Host | None = None
        self.loading: asyncio.Task[Host] | None = None
        self.loads = 0
        self.load_seconds: float | None = None
        self.described: Mapping[str, Any] = {}
        self.failure: str | None = None
        self.failures = 0
        """Failed loads since the last one that succeeded."""
        self.retry_at = -math.inf
        """When the next load may be tried, by the registry's clock."""

    def loaded(self, load: "asyncio.Task[Host]") -> None:
        """Take note that the load has ended, in whatever way."""
        self.loading = None
        if not load.cancelled():
            load.exception()  # nobody may be waiting for it any more

    @property
    def state(self) -> ModelState:
        if self.loading:
            return "loading"
        if self.host and self.host.alive:
            return "ready"
        return "failed" if self.failure else "available"


class LocalModels:
    """Models in child processes of this process: the `Models` of a single machine."""

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[Kind, str],
        start_host: StartHost = Host.start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`engines` names the engine module of each kind of model by its dotted path."""
        self.catalogue = Catalogue(settings.models)
        self._settings = settings
        self._engines = engines
        self._start_host = start_host
        self._clock = clock
        self._slots = {model.id: _Slot(model) for model in self.catalogue}
        self._closed = False
        self._models_dir = str(settings.models_dir.absolute())  # while the working directory is sure to be there

    def snapshot(self, model: Model) -> Snapshot:
        """Return what is known of the model now."""
        slot = self._slots[model.id]
        return Snapshot(
            model=model,
            state=slot.state,
            loads=slot.loads,
            load_seconds=slot.load_seconds,
            described=slot.described,
            failure=slot.failure if slot.state == "failed" else None,
        )

    async def run(self, model: Model, options: dict[str, Any], body: bytes) -> Answer:
        """Have the model's engine answer one run.

        A host that dies under the run is replaced and the run tried once more; one that dies before it came to this
        run, under somebody else's, does not count. A load that failed is tried again after 5 seconds at the earliest,
        after the next failure 10, and so on up to 5 minutes; meanwhile runs are refused at once, with the same reason.

        Raises `ModelLoadFailed`, `InferenceFailed`, or `ResourceExhausted` at the end of the service.
        """
        slot = self._slots[model.id]
        deaths_under_this_run = 0
        for _ in range(_HOSTS_FOR_ONE_RUN):
            host = await self._ready_host(slot)
            try:
                return await host.run(options, body)
            except HostDied as died:
                death = died
                deaths_under_this_run += death.run_had_started
                if deaths_under_this_run > 1:
                    break
            except RunFailed as failure:
                log.error("model %s failed on a run (%s):\n%s", model.id, failure, failure.traceback)  # noqa: TRY400
                message = f"Model {model.id!r} could not answer ({failure}); the log says where"
                raise InferenceFailed(message, details={"model_id": model.id}) from failure
        message = f"Model {model.id!r} could not answer: again and again under this request {death}"
        raise InferenceFailed(message, details={"model_id": model.id}) from death

    async def close(self) -> None:
        """Stop every host and wait until all are gone. Nothing is started any more."""
        self._closed = True
        loads = [slot.loading for slot in self._slots.values() if slot.loading]
        for load in loads:
            load.cancel()
        if loads:
            await asyncio.wait(loads)
        await asyncio.gather(*(slot.host.stop() for slot in self._slots.values() if slot.host))

    async def _ready_host(self, slot: _Slot) -> Host:
        if self._closed:
            raise ResourceExhausted(_CLOSED, retry_after_seconds=_RESTART_SECONDS)
        if slot.host and slot.host.alive:
            return slot.host
        if not slot.loading:  # one load, however many wait for it
            self._check_back_off(slot)
            slot.loading = asyncio.create_task(self._load(slot), name=f"load {slot.model.id}")
            slot.loading.add_done_callback(slot.loaded)
        loading = slot.loading
        try:
            # A caller that gives up must not take the load from the others, nor from the next request.
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():  # by `close`, not by the caller
                raise ResourceExhausted(_CLOSED, retry_after_seconds=_RESTART_SECONDS) from None
            raise

    def _check_back_off(self, slot: _Slot) -> None:
        """Refuse at once what failed a moment ago: each try costs seconds of a whole core."""
        left = slot.retry_at - self._clock()
        if left > 0:
            raise self._load_failed(slot, left)

    def _load_failed(self, slot: _Slot, retry_after_seconds: float) -> ModelLoadFailed:
        return ModelLoadFailed(
            f"Model {slot.model.id!r} could not be loaded: {slot.failure}",
            details={"model_id": slot.model.id},
            retry_after_seconds=math.ceil(retry_after_seconds),
        )

    async def _load(self, slot: _Slot) -> Host:
        model, started = slot.model, self._clock()
        log.info("model %s is being loaded", model.id)
        plan = self._plan(model)
        try:
            try:
                slot.host = await self._start_host(plan)
            except HostDied as death:
                log.warning("model %s: %s while it was being loaded; it is tried once more", model.id, death)
                slot.host = await self._start_host(plan)
        except (HostDied, HostLoadFailed) as failure:
            slot.failure = str(failure)
            back_off = min(_FIRST_BACK_OFF_SECONDS * 2**slot.failures, _LONGEST_BACK_OFF_SECONDS)
            slot.failures += 1
            slot.retry_at = self._clock() + back_off
            raise self._load_failed(slot, back_off) from failure
        slot.failure, slot.failures = None, 0
        slot.loads += 1
        slot.load_seconds = self._clock() - started
        slot.described = slot.host.described
        log.info("model %s is loaded (%.1f s)", model.id, slot.load_seconds)
        return slot.host

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
