"""How the host of a model is started: with which engine, told what, and tried how often."""

import logging
from collections.abc import Mapping
from typing import Any

from homelab_ai.models.catalogue import Kind, Model
from homelab_ai.models.hosts.host import Host, HostDied, HostPlan, StartHost
from homelab_ai.settings import Settings

_PART_OF_THE_TIMEOUT = 0.9
"""What an engine that can stop by itself may take over one run, before it is taken for hung."""

log = logging.getLogger(__name__)


class Launcher:
    """Starts hosts by the settings of the service and of each model."""

    def __init__(self, settings: Settings, engines: Mapping[Kind, str], start_host: StartHost) -> None:
        self._resources = settings.resources
        self._engines = engines
        self._start_host = start_host
        self._models_dir = str(settings.models_dir.absolute())  # while the working directory is sure to be there

    def has_engine(self, model: Model) -> bool:
        """Whether this version can run models of its kind."""
        return model.kind in self._engines

    async def launch(self, model: Model) -> Host:
        """Start a host and wait until the model is loaded; once more where it dies without a word.

        Raises `HostLoadFailed` or `HostDied`.
        """
        plan = self._plan(model)

        def note(progress: Mapping[str, Any]) -> None:
            log.info("model %s %s", model.id, progress["note"])

        try:
            return await self._start_host(plan, note)
        except HostDied as death:
            log.warning("model %s: %s while it was being loaded; it is tried once more", model.id, death)
            return await self._start_host(plan, note)

    def _plan(self, model: Model) -> HostPlan:
        settings = model.settings.model_dump(mode="json")
        if settings["device"] == "auto":
            settings["device"] = self._resources.device
        return HostPlan(
            model_id=model.id,
            engine=self._engines[model.kind],
            options={
                **settings,
                "models_dir": self._models_dir,
                "run_seconds": _PART_OF_THE_TIMEOUT * self._resources.request_timeout_seconds,
            },
            run_timeout_seconds=self._resources.request_timeout_seconds,
        )
