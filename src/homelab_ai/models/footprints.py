"""What each model is expected to take when it is loaded: the most it was found to take, or else an estimate.

Measured figures outlive the service, in state.db: only the very first load of a model goes by an estimate.
"""

import logging

from homelab_ai.looks import look
from homelab_ai.models import memory
from homelab_ai.models.catalogue import Model
from homelab_ai.models.files import places
from homelab_ai.models.memory import Footprint
from homelab_ai.settings import Settings
from homelab_ai.state import State, StateError

log = logging.getLogger(__name__)


class Footprints:
    """The expected footprint of each model."""

    def __init__(self, settings: Settings, state: State | None) -> None:
        self._default_device = settings.resources.device
        self._models_dir = settings.models_dir.absolute()  # while the working directory is sure to be there
        self._state = state
        stored = state.footprints() if state else {}
        self._measured = {key: Footprint(*figures) for key, figures in stored.items()}
        self._estimates: dict[str, Footprint] = {}

    def expected(self, model: Model) -> Footprint | None:
        """What its next load is taken to need; None until `estimate` has been called for one never measured."""
        key = self._key(model)
        return self._measured.get(key) or self._estimates.get(key)

    async def estimate(self, model: Model) -> None:
        """Estimate it, from the size of the weights."""
        hf_model, device, weights = model.settings.hf_model, self._device(model), None
        try:
            weights = await look(places.weights_bytes, hf_model, self._models_dir)
        except Exception as error:  # noqa: BLE001 - whatever a look at strange files raises: the load itself will tell
            log.warning("the size of model %s is not known: %s", model.id, type(error).__name__)
        on_gpu = device.startswith("cuda") or (device == "auto" and memory.gpu_is_likely())
        self._estimates[self._key(model)] = memory.estimate(weights, on_gpu=on_gpu)

    def measured(self, model: Model, footprint: Footprint, *, for_good: bool = True) -> None:
        """Take note of what it takes now, until the service ends or for good."""
        key = self._key(model)
        known = self._measured.get(key, Footprint())
        largest = known.largest(footprint)
        self._measured[key] = largest
        if self._state and for_good and largest != known:
            try:
                self._state.remember_footprint(key, largest.memory_bytes, largest.gpu_memory_bytes)
            except StateError as error:  # then it is estimated after the next start
                log.warning("%s", error)

    def _key(self, model: Model) -> str:
        """All that makes a footprint another one."""
        settings = model.settings
        max_length = getattr(settings, "max_length", None)
        return repr((settings.hf_model, settings.revision, self._device(model), settings.precision, max_length))

    def _device(self, model: Model) -> str:
        return self._default_device if model.settings.device == "auto" else model.settings.device
