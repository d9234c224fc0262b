"""A batcher to try: its host works only when it is let, and its time goes by only when it is told."""

import asyncio
from typing import Any

from homelab_ai.models.batcher import Batcher
from homelab_ai.models.hosts.host import HostPlan
from homelab_ai.models.observer import Observer
from homelab_ai.models.turns import Turns
from homelab_ai.settings import BatchingSettings
from support.clock import Clock
from support.hosts import VECTORS, FakeHost, vector_of


class Bench:
    """A batcher over a fake host that works only when it is let."""

    def __init__(
        self, turns: Turns | None = None, observer: Observer | None = None, *, runs_at_once: int = 1, **batching: Any
    ) -> None:
        """`turns` are those that it shares with others, if any."""
        self.clock = Clock()
        self.runs_at_once = runs_at_once
        self.turns = turns or Turns(4, self.clock)
        self.host = FakeHost(HostPlan("model", "an.engine", {}, 10))
        self.host.busy = asyncio.Event()
        self.host.described["runs_at_once"] = runs_at_once
        self.batcher = Batcher(
            self.host, BatchingSettings.model_validate({"window_ms": 0, **batching}), self.turns, self.clock, observer
        )

    def ask(self, *items: str, **how: Any) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(self.batcher.run(VECTORS, how.pop("options", {}), items, **how))

    async def finish_run(self, seconds: float = 0.1) -> None:
        """Let what is under way come to its end, and as many runs begin as there may be at a time."""
        count = len(self.host.runs)
        assert self.host.busy
        self.clock.advance(seconds)
        self.host.busy.set()
        self.host.busy = asyncio.Event()
        await quiet()
        assert len(self.host.runs) <= count + self.runs_at_once

    async def end(self, run: int, seconds: float = 0.1) -> None:
        """Let this run come to its end, whatever else is under way: the first is 0."""
        self.clock.advance(seconds)
        self.host.ends[run].set()
        await quiet()

    async def finish(self) -> None:
        """Let all runs come to their end."""
        if self.host.busy:
            self.host.busy.set()
            self.host.busy = None
        await quiet()


async def quiet() -> None:
    """Let everything happen that can happen without time going by."""
    for _ in range(30):
        await asyncio.sleep(0)


def vectors(*items: str) -> list[list[float]]:
    """What the host makes of these."""
    return [vector_of(item) for item in items]
