"""The seam of this room: what the services need of it, in one process or on a cluster."""

import contextlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from homelab_ai.models.catalogue import Catalogue, Model
from homelab_ai.models.job_queue import Format, Lane
from homelab_ai.models.timing import Timing


class RunsModel(Protocol):
    """One request's hold on a model."""

    async def run(
        self, form: Format, options: dict[str, Any], items: Sequence[Hashable], *, lane: Lane = "interactive"
    ) -> list[Any]:
        """Have the model's engine answer for each item: a result, or `ItemFailed`, in their order."""
        ...

    def preparing(self) -> contextlib.AbstractContextManager[None]:
        """Let it be known, while the items of a run are made ready, that the run comes soon."""
        ...

    async def describe(self) -> Mapping[str, Any]:
        """Return what the engine says of the model, which is loaded for that."""
        ...


class Models(Protocol):
    """What the services need of whoever runs the models."""

    @property
    def catalogue(self) -> Catalogue:
        """The configured models."""
        ...

    def lease(self, model: Model, timing: Timing | None = None) -> contextlib.AbstractAsyncContextManager[RunsModel]:
        """Hold the model for one request: from its first run to the end, it is not unloaded.

        `timing` is told where the time of the request goes.
        """
        ...
