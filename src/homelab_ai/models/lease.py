"""One request's hold on a model: runs on whatever host has it, and one host more where that dies under a run."""

import contextlib
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from homelab_ai.errors import InferenceFailed
from homelab_ai.models.hosts.host import HostDied
from homelab_ai.models.job_queue import Format, Lane
from homelab_ai.models.residency import Resident, Slot
from homelab_ai.models.timing import Timing

_HOSTS_FOR_ONE_RUN = 5
"""A run that others keep from being answered by killing its host gives up in the end."""


class Lender(Protocol):
    """Who hands out hosts: the registry."""

    async def take(self, slot: Slot) -> Resident:
        """Return a host that has the model loaded, with one more lease on it: to be given back, whatever happens."""
        ...

    def give_back(self, slot: Slot, resident: Resident) -> None:
        """Give one lease back."""
        ...


class Lease:
    """The hold. It begins with the first run, and lasts until it is given back."""

    def __init__(self, lender: Lender, slot: Slot, timing: Timing | None = None) -> None:
        """`timing` is told where the time of the request goes."""
        self._timing = timing or Timing()
        self._lender = lender
        self._slot = slot
        self._resident: Resident | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything was wanted of the model yet."""
        return self._resident is not None

    async def run(
        self, form: Format, options: dict[str, Any], items: Sequence[Hashable], *, lane: Lane = "interactive"
    ) -> list[Any]:
        """Have the model's engine answer for each item, loading the model first if need be.

        Returns one result for each, in their order, or `ItemFailed` where the engine failed on that item. Equal items
        and the items of other callers may share a run.

        A host that dies under a run is replaced, and each caller's items tried once more, now in runs of their own; a
        host that dies before it came to these items, under somebody else's, does not count. A load that failed is tried
        again after 5 seconds at the earliest, after the next failure 10, and so on up to 5 minutes; meanwhile callers
        are refused at once, with the same reason.

        Raises `ModelLoadFailed`, `InferenceFailed`, or `ResourceExhausted` when the model does not fit into the memory
        that models may take, or at the end of the service.
        """
        model = self._slot.model
        deaths_under_these_items = 0
        for _ in range(_HOSTS_FOR_ONE_RUN):
            batcher = (await self.hold()).batcher
            try:
                return await batcher.run(
                    form, options, items, lane=lane, alone=deaths_under_these_items > 0, timing=self._timing
                )
            except HostDied as died:
                death = died
                deaths_under_these_items += death.run_had_started
                if deaths_under_these_items > 1:
                    break
        message = f"Model {model.id!r} could not answer: again and again under this request {death}"
        raise InferenceFailed(message, details={"model_id": model.id}) from death

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Let it be known, while the items of a run are made ready, that the run comes soon."""
        resident = self._slot.resident
        with resident.batcher.expecting() if resident else contextlib.nullcontext():
            yield

    async def describe(self) -> Mapping[str, Any]:
        """Return what the engine says of the model, loading it first if need be. Raises as `run`."""
        return (await self.hold()).host.described

    async def hold(self) -> Resident:
        """Return the host that has the model loaded, which will not be stopped before the hold ends."""
        if self._resident and not self._resident.host.alive:
            self.give_back()
        if not self._resident:
            at_hand = self._slot.resident and self._slot.resident.takes_leases
            started = time.perf_counter()
            self._resident = await self._lender.take(self._slot)
            if not at_hand:
                self._timing.add("load", time.perf_counter() - started)
        return self._resident

    def give_back(self) -> None:
        """End the hold."""
        if self._resident:
            self._lender.give_back(self._slot, self._resident)
            self._resident = None
