"""What whoever measures is told of models, and where the time of each request is said to have gone."""

import asyncio
from collections.abc import Callable

import pytest

from homelab_ai.models.hosts.host import HostLoadFailed, RunFailed
from homelab_ai.models.observer import Nobody, WhyUnloaded
from homelab_ai.models.timing import Timing
from support.bench import Bench
from support.hosts import VECTORS
from support.house import House, quiet, until

pytestmark = pytest.mark.anyio

Told = tuple[str | float | int, ...]


class Notes(Nobody):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def loaded(self, model_id: str, seconds: float) -> None:
        self.told.append(("loaded", model_id, seconds))

    def load_failed(self, model_id: str) -> None:
        self.told.append(("load failed", model_id))

    def waited(self, model_id: str, seconds: float) -> None:
        self.told.append(("waited", model_id, round(seconds, 6)))

    def ran(self, model_id: str, seconds: float, items: int, tokens: int) -> None:
        self.told.append(("ran", model_id, round(seconds, 6), items, tokens))

    def unloaded(self, model_id: str, why: WhyUnloaded) -> None:
        self.told.append(("unloaded", model_id, why))

    def host_died(self, model_id: str) -> None:
        self.told.append(("host died", model_id))

    def removed(self, model_id: str) -> None:
        self.told.append(("removed", model_id))

    def of(self, *words: str) -> list[Told]:
        return [told for told in self.told if told[0] in words]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def observed(houses: Callable[..., House], notes: Notes) -> House:
    return houses(observer=notes)


async def test_a_load_and_a_run(observed: House, notes: Notes) -> None:
    observed.hosts.starting = asyncio.Event()
    asking = observed.asking("a")
    await until(lambda: observed.hosts.asked)
    observed.clock.advance(3)
    observed.hosts.starting.set()
    await asking
    assert notes.told == [("loaded", "a", 3), ("waited", "a", 0), ("ran", "a", 0, 1, 0)]


async def test_a_request_takes_as_long_as_it_has_waited_and_run(houses: Callable[..., House]) -> None:
    answered: list[tuple[str, float]] = []

    class Answers(Nobody):
        def answered(self, model_id: str, seconds: float) -> None:
            answered.append((model_id, seconds))

    house = houses(observer=Answers())
    house.hosts.starting = asyncio.Event()
    asking = house.asking("a")
    await until(lambda: house.hosts.asked)
    house.clock.advance(3)
    house.hosts.starting.set()
    await asking
    await house.ask("a")
    house.hosts.on_start = lambda plan: HostLoadFailed("it does not want to")
    with pytest.raises(Exception, match="does not want"):
        await house.ask("b")
    assert answered == [("a", 3), ("a", 0)]


async def test_a_load_that_fails_and_a_folder_that_is_not_there(observed: House, notes: Notes) -> None:
    observed.hosts.on_start = lambda plan: HostLoadFailed("it does not want to")
    with pytest.raises(Exception, match="does not want"):
        await observed.ask("a")
    assert notes.told == [("load failed", "a")]
    with pytest.raises(Exception, match="does not want"):  # refused at once: nothing was tried
        await observed.ask("a")
    assert notes.told == [("load failed", "a")]


async def test_why_a_model_went(observed: House, notes: Notes) -> None:
    catalogue = observed.models.catalogue
    await observed.ask("a")
    observed.clock.advance(601)
    await until(lambda: notes.of("unloaded"))
    await observed.ask("b")
    await observed.models.unload(catalogue.get("b"))
    await observed.ask("a")
    observed.clock.advance(1)
    await observed.ask("b")
    await observed.ask("c")  # there is room for two
    await observed.ask("b")
    observed.host("b").kill()
    await until(lambda: notes.of("host died"))
    observed.models.change(catalogue.get("c"), {"enabled": False})
    await until(lambda: len(notes.of("unloaded")) == 5)
    assert notes.of("unloaded", "host died") == [
        ("unloaded", "a", "idle"),
        ("unloaded", "b", "asked"),
        ("unloaded", "a", "room"),
        ("host died", "b"),
        ("unloaded", "b", "failed"),
        ("unloaded", "c", "asked"),
    ]


async def test_the_end_of_the_service_is_no_unload(observed: House, notes: Notes) -> None:
    await observed.ask("a")
    await observed.models.close()
    assert notes.of("unloaded", "host died") == []


async def test_a_removed_model_is_told_of_last_of_all(observed: House, notes: Notes) -> None:
    (asking,) = await observed.at_work("a")
    removing = asyncio.create_task(observed.models.remove(observed.models.catalogue.get("a")))
    await quiet()
    assert notes.of("removed") == []
    observed.busy["a"].set()
    await asyncio.gather(asking, removing)
    await quiet()
    assert notes.told[-3:] == [("ran", "a", 0, 1, 0), ("unloaded", "a", "asked"), ("removed", "a")]
    await observed.models.remove(observed.models.catalogue.get("b"))
    await quiet()
    assert notes.told[-1] == ("removed", "b")


async def test_a_model_that_is_added_again_is_not_told_of_as_removed(observed: House, notes: Notes) -> None:
    (asking,) = await observed.at_work("a")
    model = observed.models.catalogue.get("a")
    removing = asyncio.create_task(observed.models.remove(model))
    await quiet()
    await observed.models.add("text_embedding", model.settings)
    again = observed.asking("a")
    await quiet()
    observed.busy.pop("a").set()
    await asyncio.gather(asking, removing, again)
    assert notes.of("removed") == []
    assert len(notes.of("loaded")) == 2


async def test_queued_requests_are_those_whose_first_run_has_not_begun(observed: House) -> None:
    model = observed.models.catalogue.get("a")
    (first,) = await observed.at_work("a")
    assert observed.models.snapshot(model).queued_requests == 0
    others = [observed.asking("a") for _ in range(3)]
    await quiet()
    snapshot = observed.models.snapshot(model)
    assert (snapshot.active_requests, snapshot.queued_requests) == (4, 3)
    observed.busy["a"].set()
    await asyncio.gather(first, *others)
    snapshot = observed.models.snapshot(model)
    assert (snapshot.active_requests, snapshot.queued_requests) == (0, 0)


# --- where the time of a request went


async def test_a_request_is_told_how_long_it_waited_and_what_its_runs_took(benches: Callable[..., Bench]) -> None:
    notes = Notes()
    bench = benches(observer=notes, max_items=2)
    bench.host.says = {"tokens": 7, "seconds": {"tokenize": 0.25, "inference": 2.0}}
    first, second = Timing(), Timing()
    long = bench.ask("aaa", "bbb", "ccc", timing=first)  # two runs
    await quiet()
    bench.clock.advance(1)
    short = bench.ask("x", timing=second)
    await quiet()
    await bench.finish_run(2)
    assert bench.host.runs[1:] == [["x", "ccc"]] or bench.host.runs[1:] == [["ccc", "x"]]
    await bench.finish_run(4)
    await asyncio.gather(long, short)
    assert first.parts == {"queue": 0, "tokenize": 0.5, "inference": 4.0}
    assert second.parts == {"queue": 2, "tokenize": 0.25, "inference": 2.0}  # of a run that was shared, the whole
    assert notes.told == [
        ("waited", "model", 0),
        ("ran", "model", 3, 2, 7),
        ("waited", "model", 2),
        ("ran", "model", 4, 2, 7),
    ]


async def test_a_run_that_was_halved_counts_what_was_answered(benches: Callable[..., Bench]) -> None:
    notes = Notes()
    bench = benches(observer=notes)
    bench.host.says = {"seconds": {"inference": 1.0}}
    bench.host.on_run = lambda texts: RunFailed("ValueError", "") if "bad" in texts else None
    timing = Timing()
    asking = bench.ask("a", "b", "c", "bad", timing=timing)
    await quiet()
    await bench.finish()
    await asking
    assert timing.parts == {"queue": 0, "inference": 2.0}
    assert [told[3] for told in notes.of("ran")] == [2, 1]


async def test_a_request_is_told_how_long_it_waited_for_the_model(house: House) -> None:
    cold, warm = Timing(), Timing()
    for timing in (cold, warm):
        async with house.models.lease(house.models.catalogue.get("a"), timing) as lease:
            await lease.run(VECTORS, {}, ["a"])
    assert list(cold.parts) == ["load", "queue"]
    assert list(warm.parts) == ["queue"]
