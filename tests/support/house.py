"""A registry with room for two of its four models, over fake hosts and a clock that stands still."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.models.observer import Observer
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings
from homelab_ai.state import State
from support.clock import Clock
from support.hosts import VECTORS, FakeHost, FakeHosts

NAMES = ("a", "b", "c", "d")


class House:
    """A registry over four models of 1 GB each, the fake hosts and the clock."""

    def __init__(
        self,
        folder: Path,
        *,
        state: State | None = None,
        sizes: dict[str, Footprint] | None = None,
        more: Sequence[dict[str, Any]] = (),
        observer: Observer | None = None,
        **resources: Any,
    ) -> None:
        entries = [
            {"id": name, "hf_model": f"org/{name}", **({"keep_alive_minutes": -1} if name == "d" else {})}
            for name in NAMES
        ]
        entries += more
        self.settings = Settings.model_validate(
            {
                "data_dir": folder / "data",
                "models_dir": folder / "models",
                "models": {"text_embedding": entries, "image_caption": []},
                "batching": {"window_ms": 0},  # the clock stands still
                "resources": {"max_memory_gb": 2.0, "model_keep_alive_minutes": 10, "device": "cpu", **resources},
            }
        )
        self.sizes = sizes or {}
        self.hosts, self.clock = FakeHosts(), Clock()
        self.hosts.prepare = self._prepare
        self.busy: dict[str, asyncio.Event] = {}
        self.models = LocalModels(
            self.settings,
            {"text_embedding": "an.engine"},
            self.hosts,
            clock=self.clock,
            state=state,
            observer=observer,
        )

    def follow(self, *, entries: Sequence[dict[str, Any]] | None = None, **resources: Any) -> None:
        """Have the configuration say this now."""
        values = self.settings.model_dump()
        values["resources"] |= resources
        if entries is not None:
            values["models"]["text_embedding"] = entries
        self.settings = Settings.model_validate(values)
        self.models.follow(self.settings)

    def _prepare(self, host: FakeHost) -> None:
        host.takes = self.sizes.get(host.plan.model_id, Footprint(BYTES_PER_GB))
        host.busy = self.busy.get(host.plan.model_id)

    async def ask(self, name: str) -> list[Any]:
        async with self.models.lease(self.models.catalogue.get(name)) as lease:
            return await lease.run(VECTORS, {}, [name])

    def asking(self, name: str) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(self.ask(name))

    def states(self) -> dict[str, str]:
        return {name: self.models.snapshot(self.models.catalogue.get(name)).state for name in NAMES}

    def loaded(self) -> list[str]:
        return [name for name, state in self.states().items() if state == "ready"]

    async def at_work(self, name: str, requests: int = 1) -> "list[asyncio.Task[list[Any]]]":
        """Return requests for a model that are under way until `busy[name]` is set."""
        self.busy[name] = asyncio.Event()
        asking = [self.asking(name) for _ in range(requests)]
        await until(lambda: any(host.plan.model_id == name and host.runs for host in self.hosts.started))
        return asking

    def host(self, name: str) -> FakeHost:
        return next(host for host in reversed(self.hosts.started) if host.plan.model_id == name)


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def quiet() -> None:
    """Let everything that can go on without time passing go on."""
    for _ in range(20):
        await asyncio.sleep(0)
