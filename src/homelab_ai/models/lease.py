"""One request's hold on a model: runs on whatever host has it, and one host more where that dies under a run."""

import logging
from typing import Any, Protocol

from homelab_ai.errors import InferenceFailed
from homelab_ai.models.host import Answer, Host, HostDied, RunFailed
from homelab_ai.models.residency import Resident, Slot

log = logging.getLogger(__name__)

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

    def __init__(self, lender: Lender, slot: Slot) -> None:
        self._lender = lender
        self._slot = slot
        self._resident: Resident | None = None

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        """Have the model's engine answer one run, loading the model first if need be.

        A host that dies under the run is replaced and the run tried once more; one that dies before it came to this
        run, under somebody else's, does not count. A load that failed is tried again after 5 seconds at the earliest,
        after the next failure 10, and so on up to 5 minutes; meanwhile runs are refused at once, with the same reason.

        Raises `ModelLoadFailed`, `InferenceFailed`, or `ResourceExhausted` when the model does not fit into the memory
        that models may take, or at the end of the service.
        """
        model = self._slot.model
        deaths_under_this_run = 0
        for _ in range(_HOSTS_FOR_ONE_RUN):
            host = await self.hold()
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

    async def hold(self) -> Host:
        """Return the host that has the model loaded, and that will not be stopped before the hold ends."""
        if self._resident and not self._resident.host.alive:
            self.give_back()
        if not self._resident:
            self._resident = await self._lender.take(self._slot)
        return self._resident.host

    def give_back(self) -> None:
        """End the hold."""
        if self._resident:
            self._lender.give_back(self._slot, self._resident)
            self._resident = None
