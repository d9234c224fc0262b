"""Which models stay loaded: as long as they are used and their keep-alive says, and never more than memory allows."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab_ai.errors import ModelLoadFailed, ResourceExhausted
from homelab_ai.models.hosts.host import HostLoadFailed
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.models.registry import LocalModels
from homelab_ai.models.residency import Resident, Slot
from homelab_ai.settings import Settings
from homelab_ai.state import State
from support.clock import Clock
from support.hosts import VECTORS, FakeHosts
from support.house import House, quiet, until

pytestmark = pytest.mark.anyio


# --- keep-alive


async def test_a_model_goes_when_its_keep_alive_ends_and_not_before(house: House) -> None:
    await house.ask("a")
    house.clock.advance(599)
    await quiet()
    assert house.loaded() == ["a"]
    house.clock.advance(1)
    await quiet()
    assert (house.states()["a"], house.host("a").stopped, house.models.used) == ("available", True, Footprint())
    await house.ask("a")
    assert len(house.hosts.started) == 2


async def test_the_keep_alive_begins_with_the_last_answer(house: House) -> None:
    house.busy["a"] = asyncio.Event()
    slow = house.asking("a")
    await until(lambda: house.hosts.started and house.hosts.started[0].runs)
    house.clock.advance(10_000)
    await quiet()
    assert house.loaded() == ["a"]
    house.busy["a"].set()
    await slow
    house.clock.advance(599)
    await house.ask("a")
    house.clock.advance(599)
    await quiet()
    assert house.loaded() == ["a"]
    house.clock.advance(1)
    await quiet()
    assert house.loaded() == []


async def test_one_timer_is_enough_for_all_models(house: House) -> None:
    await house.ask("a")
    house.clock.advance(300)
    await house.ask("b")
    house.clock.advance(300)
    await quiet()
    assert house.loaded() == ["b"]
    house.clock.advance(300)
    await quiet()
    assert house.loaded() == []


async def test_a_keep_alive_of_nothing_unloads_at_once(houses: Callable[..., House]) -> None:
    house = houses(model_keep_alive_minutes=0)
    await house.ask("a")
    await quiet()
    assert (house.loaded(), house.host("a").stopped) == ([], True)


async def test_a_pinned_model_stays(house: House) -> None:
    await house.ask("d")
    house.clock.advance(10**9)
    await quiet()
    assert house.loaded() == ["d"]
    snapshot = house.models.snapshot(house.models.catalogue.get("d"))
    assert (snapshot.idle_seconds, snapshot.unloads_in_seconds) == (10**9, None)


async def test_the_countdown_is_told(house: House) -> None:
    model = house.models.catalogue.get("a")
    await house.ask("a")
    house.clock.advance(200)
    snapshot = house.models.snapshot(model)
    assert (snapshot.idle_seconds, snapshot.unloads_in_seconds) == (200, 400)
    async with house.models.lease(model) as lease:
        await lease.run(VECTORS, {}, ["x"])
        snapshot = house.models.snapshot(model)
        assert (snapshot.idle_seconds, snapshot.unloads_in_seconds, snapshot.active_requests) == (None, None, 1)
    assert (snapshot.requests, house.models.snapshot(model).active_requests) == (2, 0)


async def test_a_request_that_comes_while_its_model_is_unloaded_gets_it_anew(house: House) -> None:
    await house.ask("a")
    ending = house.host("a").stopping = asyncio.Event()
    house.clock.advance(600)
    await quiet()
    again = house.asking("a")
    await quiet()
    assert len(house.hosts.started) == 1  # never two copies, not even for a moment
    ending.set()
    assert await again
    assert (len(house.hosts.started), house.loaded()) == (2, ["a"])


# --- memory


async def test_the_model_that_was_unused_for_longest_makes_room(house: House) -> None:
    for name in ("a", "b", "a", "c"):
        await house.ask(name)
        house.clock.advance(1)
    assert house.loaded() == ["a", "c"]
    assert [host.plan.model_id for host in house.hosts.started if host.stopped] == ["b"]


async def test_the_next_is_not_started_before_the_memory_is_back(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    await house.ask("a")
    ending = house.host("a").stopping = asyncio.Event()
    waiting = house.asking("b")
    await until(lambda: house.host("a").stopped)
    await quiet()
    assert [plan.model_id for plan in house.hosts.asked] == ["a"]
    ending.set()
    await waiting
    assert house.loaded() == ["b"]


async def test_a_model_in_use_is_not_taken_from_its_request(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    (working,) = await house.at_work("a")
    waiting = house.asking("b")
    await until(lambda: house.states()["a"] == "draining")
    house.clock.advance(100)
    await quiet()
    assert not house.host("a").stopped
    house.busy["a"].set()
    assert await working
    assert await waiting
    assert not house.host("a").stopped_under_a_run


async def test_a_request_keeps_its_model_between_its_runs(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    async with house.models.lease(house.models.catalogue.get("a")) as lease:
        await lease.run(VECTORS, {}, ["first"])
        waiting = house.asking("b")
        await until(lambda: house.states()["a"] == "draining")
        await lease.run(VECTORS, {}, ["second"])
        assert not waiting.done()
    await waiting
    assert house.hosts.started[0].runs == [["first"], ["second"]]


async def test_models_that_do_not_fit_together_take_turns_under_constant_demand(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    answered = dict.fromkeys("ab", 0)

    async def insist(name: str) -> None:
        for _ in range(20):
            await house.ask(name)
            answered[name] += 1

    async with asyncio.timeout(10):
        await asyncio.gather(*(insist(name) for name in "ab" for _ in range(5)))
    assert answered == {"a": 100, "b": 100}
    alive = [host for host in house.hosts.started if host.alive]
    assert len(alive) == 1
    assert not any(host.stopped_under_a_run for host in house.hosts.started)


async def test_a_large_model_is_not_overtaken_for_ever(houses: Callable[..., House]) -> None:
    house = houses(sizes={"c": Footprint(2 * BYTES_PER_GB)})
    await house.ask("c")  # and so its size is known
    await house.ask("a")
    house.busy["b"] = asyncio.Event()
    held = house.asking("b")
    await until(lambda: len(house.loaded()) == 2)
    large = house.asking("c")
    await until(lambda: house.states()["b"] == "draining")
    small = [house.asking("a") for _ in range(5)]
    await quiet()
    assert not any(task.done() for task in (large, *small))
    house.busy.pop("b").set()
    await large
    assert [plan.model_id for plan in house.hosts.asked] == ["c", "a", "b", "c"]
    await asyncio.gather(held, *small)


async def test_a_model_that_cannot_fit_even_alone_is_refused_with_the_figures(houses: Callable[..., House]) -> None:
    house = houses(sizes={"a": Footprint(3 * BYTES_PER_GB)})
    await house.ask("b")
    for starts in (1, 1):  # the first load measures it, and no second is tried
        with pytest.raises(ResourceExhausted) as raised:
            await house.ask("a")
        assert "needs 3.00 GB" in raised.value.message
        assert "max_memory_gb allows 2.00 GB" in raised.value.message
        assert raised.value.details == {
            "model_id": "a",
            "needed_memory_bytes": 3 * BYTES_PER_GB,
            "max_memory_bytes": 2 * BYTES_PER_GB,
            "pinned_models": [],
        }
        assert [plan.model_id for plan in house.hosts.asked].count("a") == starts
    assert house.models.used.fits(house.models.budget)
    await house.ask("b")


async def test_a_pinned_model_does_not_make_room_and_the_refusal_names_it(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.5)
    await house.ask("d")
    with pytest.raises(ResourceExhausted, match=r"pinned stays loaded \(d\)") as raised:
        await house.ask("a")
    assert raised.value.details["pinned_models"] == ["d"]
    assert house.loaded() == ["d"]
    await house.models.unload(house.models.catalogue.get("d"))  # by hand it goes
    await house.ask("a")


async def test_a_model_that_turns_out_larger_than_thought_makes_more_room(houses: Callable[..., House]) -> None:
    house = houses(sizes={"c": Footprint(2 * BYTES_PER_GB)})
    await house.ask("a")
    assert await house.ask("c")
    await quiet()
    assert house.loaded() == ["c"]
    assert house.models.used.fits(house.models.budget)


async def test_one_that_grows_at_work_makes_others_go(house: House) -> None:
    for name in ("a", "b"):
        await house.ask(name)
    house.clock.advance(11)
    house.host("b").takes = Footprint(int(1.5 * BYTES_PER_GB))
    await house.ask("b")
    await quiet()
    assert house.loaded() == ["b"]


async def test_a_pinned_model_that_outgrows_the_budget_goes_last_of_all(house: House) -> None:
    for name in ("d", "a"):
        await house.ask(name)
    house.clock.advance(11)
    house.host("d").takes = Footprint(int(1.5 * BYTES_PER_GB))
    await house.ask("d")
    await quiet()
    assert house.loaded() == ["d"]
    house.clock.advance(11)
    house.host("d").takes = Footprint(3 * BYTES_PER_GB)
    await house.ask("d")
    await quiet()
    assert house.loaded() == []
    with pytest.raises(ResourceExhausted, match=r"needs 3\.00 GB"):
        await house.ask("d")


async def test_gpu_and_main_memory_are_two_budgets(houses: Callable[..., House]) -> None:
    gpu = Footprint(BYTES_PER_GB // 4, 5 * BYTES_PER_GB)
    house = houses(sizes={"a": gpu, "b": gpu}, max_gpu_memory_gb=8.0)
    for name in ("a", "c", "b"):
        await house.ask(name)
        house.clock.advance(1)
    assert house.loaded() == ["b", "c"]  # c takes nothing of the GPU: to let it go would not help
    house = houses(sizes={"a": Footprint(1, 9 * BYTES_PER_GB)}, max_gpu_memory_gb=8.0)
    with pytest.raises(ResourceExhausted, match=r"needs 9.00 GB, but resources.max_gpu_memory_gb allows 8.00 GB"):
        await house.ask("a")


async def test_a_measured_footprint_outlives_the_service(houses: Callable[..., House], tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    house = houses(sizes={"a": Footprint(3 * BYTES_PER_GB)}, state=state)
    with pytest.raises(ResourceExhausted):
        await house.ask("a")
    state.close()
    state = State.open(tmp_path / "state")
    house = houses(state=state)
    with pytest.raises(ResourceExhausted):
        await house.ask("a")
    assert house.hosts.asked == []
    state.close()


async def test_where_nothing_can_be_measured_the_estimate_stands(house: House) -> None:
    house.hosts.prepare = lambda host: setattr(host, "takes", None)
    await house.ask("a")
    assert 0 < house.models.used.memory_bytes < 2 * BYTES_PER_GB


async def test_a_host_that_dies_gives_its_room_back(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    await house.ask("a")
    house.host("a").kill()
    await quiet()
    assert house.models.used == Footprint()
    await house.ask("b")


async def test_callers_that_have_gone_are_not_loaded_for(houses: Callable[..., House]) -> None:
    house = houses(max_memory_gb=1.0)
    (working,) = await house.at_work("a")
    waiting = [house.asking("b") for _ in range(3)]
    await until(lambda: house.states()["a"] == "draining")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert house.states()["b"] == "available"
    house.busy.pop("a").set()
    await working
    await house.ask("a")
    assert [plan.model_id for plan in house.hosts.asked] == ["a", "a"]


async def test_a_caller_that_goes_in_the_moment_it_is_given_the_model_does_not_keep_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Slot.give

    def give_and_cancel(slot: Slot, resident: Resident) -> None:
        give(slot, resident)
        waiting.cancel()

    monkeypatch.setattr(Slot, "give", give_and_cancel)
    waiting = house.asking("a")
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert house.models.snapshot(house.models.catalogue.get("a")).active_requests == 0
    house.clock.advance(600)
    await quiet()
    assert house.loaded() == []


async def test_more_requests_than_may_wait_are_refused_and_told_when_to_come_back(houses: Callable[..., House]) -> None:
    house = houses(max_concurrent_requests=2, max_queued_requests=3)
    house.busy["a"] = asyncio.Event()
    waiting = [house.asking("a") for _ in range(5)]
    await until(lambda: house.hosts.started and house.hosts.started[0].runs)
    for name in ("a", "b"):
        with pytest.raises(ResourceExhausted) as raised:
            await house.ask(name)
        assert raised.value.details == {"model_id": name, "requests": 5}
        assert 1 <= int(raised.value.headers["Retry-After"]) <= 120
    waiting.pop().cancel()
    await quiet()
    waiting.append(house.asking("a"))
    await quiet()
    house.busy.pop("a").set()
    assert len(await asyncio.gather(*waiting)) == 5


# --- by hand


async def test_load_and_unload_by_hand(house: House) -> None:
    model = house.models.catalogue.get("a")
    await house.models.load(model)
    await house.models.load(model)
    assert (house.loaded(), len(house.hosts.started)) == (["a"], 1)
    snapshot = house.models.snapshot(model)
    assert (snapshot.requests, snapshot.footprint) == (0, Footprint(BYTES_PER_GB))
    await house.models.unload(model)
    await house.models.unload(model)
    assert (house.states()["a"], house.models.used) == ("available", Footprint())


async def test_unloading_waits_for_the_requests_that_use_the_model(house: House) -> None:
    (working,) = await house.at_work("a")
    unloading = asyncio.create_task(house.models.unload(house.models.catalogue.get("a")))
    await quiet()
    late = house.asking("a")
    await quiet()
    assert (house.states()["a"], unloading.done(), late.done()) == ("draining", False, False)
    house.busy.pop("a").set()
    assert await working
    await unloading
    assert await late
    assert len(house.hosts.started) == 2


async def test_unloading_what_is_being_loaded_answers_those_who_wait_for_it(house: House) -> None:
    house.hosts.starting = asyncio.Event()
    waiting = [house.asking("a") for _ in range(3)]
    await until(lambda: house.hosts.asked)
    unloading = asyncio.create_task(house.models.unload(house.models.catalogue.get("a")))
    await quiet()
    house.hosts.starting.set()
    assert all(answer for answer in await asyncio.gather(*waiting))
    await unloading
    assert (house.loaded(), len(house.hosts.started)) == ([], 1)


async def test_loading_by_hand_does_not_wait_for_the_back_off(house: House) -> None:
    model = house.models.catalogue.get("a")
    house.hosts.on_start = lambda plan: HostLoadFailed("it has no weights")
    with pytest.raises(ModelLoadFailed):
        await house.ask("a")
    assert house.models.snapshot(model).retry_in_seconds == 5
    house.hosts.on_start = lambda plan: None
    with pytest.raises(ModelLoadFailed):
        await house.ask("a")
    await house.models.load(model)
    await house.ask("a")
    assert math.isinf(house.models._slots["a"].retry_at)


async def test_a_model_that_no_engine_runs_says_so(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "models_dir": tmp_path})
    models = LocalModels(settings, {}, FakeHosts(), clock=Clock())
    with pytest.raises(ModelLoadFailed, match="no engine for models of type image_caption"):
        await models.load(models.catalogue.get("blip-base"))
