"""The seams of this room: what the services need of it, and what it needs of time."""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from homelab_ai.models.catalogue import Catalogue, Model
from homelab_ai.models.host import Answer


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Forget it."""
        ...


class Clock(Protocol):
    """What the registry needs of time; an event loop has it."""

    def time(self) -> float:
        """Seconds since some moment."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call the function after so many seconds."""
        ...


class RunsModel(Protocol):
    """One request's hold on a model."""

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        """Have the model's engine answer one run, loading the model first if need be."""
        ...


class Models(Protocol):
    """What the services need of whoever runs the models."""

    @property
    def catalogue(self) -> Catalogue:
        """The configured models."""
        ...

    def lease(self, model: Model) -> contextlib.AbstractAsyncContextManager[RunsModel]:
        """Hold the model for one request: from its first run to the end, it is not unloaded."""
        ...
