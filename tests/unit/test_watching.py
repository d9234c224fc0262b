"""What open pages are shown is made once for all of them, and sent anew when there is something new."""

import contextlib

import pytest
from pydantic import BaseModel

from homelab_ai.api.watching import MOST_STREAMS, Frame, Watching
from homelab_ai.errors import ResourceExhausted
from support.clock import Clock

pytestmark = pytest.mark.anyio


class Status(BaseModel):
    uptime_seconds: float = 0


class Download(BaseModel):
    bytes: int = 0
    seconds_left: float | None = None


class Model(BaseModel):
    state: str = "available"
    requests: int = 0
    memory_bytes: int = 0
    idle_seconds: float | None = None
    download: Download | None = None


class Models(BaseModel):
    models: list[Model] = [Model(), Model()]


class Service:
    def __init__(self) -> None:
        self.clock, self.looks, self.models = Clock(), 0, Models()
        self.watching = Watching(self.clock.time)

    async def look(self) -> tuple[Status, Models]:
        self.looks += 1
        return Status(uptime_seconds=self.clock.now), self.models

    async def frame(self, after: float = 1) -> Frame:
        self.clock.advance(after)
        return await self.watching.frame(self.look)


async def test_it_is_made_once_a_second_however_many_watch() -> None:
    service = Service()
    first = await service.frame()
    for _ in range(20):
        assert await service.frame(0.04) is first
    assert service.looks == 1
    assert Status.model_validate_json((await service.frame()).status).uptime_seconds == service.clock.now
    assert service.looks == 2


async def test_models_are_new_at_first_and_when_something_changes() -> None:
    service = Service()
    first = await service.frame()
    assert (first.version, Models.model_validate_json(first.models)) == (1, service.models)
    assert (await service.frame()).version == 1
    service.models.models[1].state = "loading"
    changed = await service.frame()
    assert (changed.version, Models.model_validate_json(changed.models)) == (2, service.models)
    service.models.models[1].download = Download(bytes=5)
    assert (await service.frame()).version == 3
    service.models.models.pop()
    assert (await service.frame()).version == 4


async def test_time_that_goes_by_is_no_change() -> None:
    service = Service()
    service.models.models[0] = Model(idle_seconds=0, download=Download(seconds_left=100))
    first = await service.frame()
    for second in range(20):
        service.models.models[0] = Model(idle_seconds=second, download=Download(seconds_left=100 - second))
        assert (await service.frame()).version == first.version


async def test_figures_that_change_with_every_request_are_sent_now_and_then() -> None:
    service = Service()
    versions = []
    for second in range(21):
        service.models.models[0] = Model(requests=second, memory_bytes=second)
        versions.append((await service.frame()).version)
    assert versions[-1] == 5
    service.models.models[1].state = "ready"
    assert (await service.frame()).version == 6, "a state is not kept waiting"


def test_there_are_places_for_so_many() -> None:
    watching = Watching()
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_STREAMS):
            stack.enter_context(watching.place())
        with pytest.raises(ResourceExhausted, match="open already") as raised, watching.place():
            pass
        assert raised.value.details == {"max_streams": MOST_STREAMS}
    with watching.place():
        pass
