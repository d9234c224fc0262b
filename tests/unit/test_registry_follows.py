"""The models go by a configuration that has changed: what is asked for is answered, by the model as it is now."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.errors import ModelNotFound, ModelNotLoaded, ResourceExhausted
from homelab_ai.models.inventory import ENTRY_TYPES
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.state import State
from support.hosts import vector_of
from support.house import NAMES, House, quiet, until

pytestmark = pytest.mark.anyio


def entries(*changed: dict[str, Any], without: str = "") -> list[dict[str, Any]]:
    """The four models of the house, with what is changed of some, and others behind them."""
    more = {entry["id"]: entry for entry in changed}
    own = [{"id": name, "hf_model": f"org/{name}", **more.pop(name, {})} for name in NAMES if name not in without]
    return own + list(more.values())


async def test_a_model_more_is_served_and_one_less_is_not(house: House) -> None:
    await house.ask("a")
    house.follow(entries=entries({"id": "new", "hf_model": "org/new"}, without="a"))
    assert await house.ask("new") == [vector_of("new")]
    assert house.host("a").stopped
    with pytest.raises(ModelNotFound):
        await house.ask("a")


async def test_what_does_not_change_stays_loaded(house: House) -> None:
    await house.ask("a")
    house.follow(entries=entries({"id": "a", "aliases": ["first"], "default": True, "keep_alive_minutes": 1}))
    await quiet()
    assert not house.host("a").stopped
    assert house.models.catalogue.get("first").id == "a"
    assert house.models.catalogue.choose(None, "text_embedding").id == "a"
    house.clock.advance(61)
    await until(lambda: house.host("a").stopped)


async def test_a_model_that_runs_otherwise_now_answers_who_has_it_and_is_loaded_anew_for_the_next(
    house: House,
) -> None:
    (asking,) = await house.at_work("a")
    first = house.host("a")
    house.follow(entries=entries({"id": "a", "max_length": 7}))
    later = house.asking("a")
    await quiet()
    assert not asking.done()
    assert not first.stopped
    house.busy.pop("a").set()
    assert await asking == [vector_of("a")]
    assert await later == [vector_of("a")]
    await until(lambda: first.stopped)
    assert not first.stopped_under_a_run
    assert house.host("a") is not first
    assert (first.plan.options["max_length"], house.host("a").plan.options["max_length"]) == (None, 7)


async def test_a_model_that_changes_while_it_is_loaded_answers_and_goes(house: House) -> None:
    house.hosts.starting = asyncio.Event()
    asking = house.asking("a")
    await until(lambda: house.states()["a"] == "loading")
    await quiet()
    house.follow(entries=entries({"id": "a", "max_length": 7}))
    house.hosts.starting.set()
    assert await asking == [vector_of("a")]
    assert await house.ask("a") == [vector_of("a")]
    assert house.host("a").plan.options["max_length"] == 7


async def test_a_model_that_is_disabled_goes_when_its_requests_are_answered(house: House) -> None:
    (asking,) = await house.at_work("a")
    house.follow(entries=entries({"id": "a", "enabled": False}))
    with pytest.raises(ModelNotLoaded):
        house.models.catalogue.choose("a", "text_embedding")
    house.busy.pop("a").set()
    assert await asking
    await until(lambda: house.host("a").stopped)


async def test_a_failure_is_forgiven_when_the_model_is_changed(house: House) -> None:
    house.hosts.on_start = lambda _: OSError("broken")
    with pytest.raises(OSError, match="broken"):
        await house.ask("a")
    house.hosts.on_start = lambda _: None
    house.follow(entries=entries({"id": "a", "hf_model": "org/other"}))
    assert await house.ask("a")
    assert house.host("a").plan.options["hf_model"] == "org/other"


async def test_a_smaller_budget_has_models_go_and_a_larger_one_lets_them_come(house: House) -> None:
    await house.ask("a")
    await house.ask("b")
    house.follow(max_memory_gb=1.0)
    await until(lambda: house.host("a").stopped)
    assert house.loaded() == ["b"]
    assert house.models.budget == Footprint(BYTES_PER_GB, 8 * BYTES_PER_GB)
    house.follow(max_memory_gb=4.0)
    for name in NAMES:
        await house.ask(name)
    assert house.loaded() == list(NAMES)


async def test_how_many_may_wait_is_gone_by_at_once(house: House) -> None:
    asking = await house.at_work("a", 4)
    house.follow(max_queued_requests=0)
    with pytest.raises(ResourceExhausted):
        await house.ask("a")
    house.follow(max_queued_requests=9)
    more = house.asking("a")
    house.busy.pop("a").set()
    await asyncio.gather(*asking, more)


async def test_a_keep_alive_is_gone_by_at_once(house: House) -> None:
    await house.ask("a")
    house.follow(model_keep_alive_minutes=1)
    house.clock.advance(61)
    await until(lambda: house.host("a").stopped)


async def test_a_model_may_become_one_of_another_kind(house: House) -> None:
    await house.ask("a")
    values = house.settings.model_dump()
    values["models"] = {
        "text_embedding": entries(without="a"),
        "image_caption": [{"id": "a", "hf_model": "org/a"}],
    }
    house.models.follow(type(house.settings).model_validate(values))
    assert house.models.catalogue.get("a").kind == "image_caption"
    await until(lambda: house.host("a").stopped)
    assert house.states()["a"] == "available"


async def test_what_was_changed_at_run_time_stays_over_it(tmp_path: Path) -> None:
    state = State.open(tmp_path / "data")
    house = House(tmp_path, state=state)
    added = ENTRY_TYPES["text_embedding"].model_validate({"id": "new", "hf_model": "org/new"})
    await house.models.add("text_embedding", added)
    await house.models.remove(house.models.catalogue.get("b"))
    house.follow(entries=entries({"id": "c", "aliases": ["sea"]}))
    assert [model.id for model in house.models.catalogue] == ["a", "c", "d", "new"]
    assert house.models.catalogue.get("sea").id == "c"
    await house.models.close()
    state.close()


AT_EVERY_STEP = pytest.mark.parametrize("steps", range(30))
"""Of the event loop, after which the model has been loaded, and before which nothing has begun."""


@AT_EVERY_STEP
async def test_whenever_it_changes_on_its_way_who_asked_is_answered(house: House, steps: int) -> None:
    asking = house.asking("a")
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    house.follow(entries=entries({"id": "a", "max_length": 7}))
    async with asyncio.timeout(10):
        assert await asking == [vector_of("a")]


@AT_EVERY_STEP
async def test_whenever_it_goes_on_its_way_it_leaves_nothing_behind(house: House, steps: int) -> None:
    asking = house.asking("a")
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    house.follow(entries=entries(without="a"))
    async with asyncio.timeout(10):
        with contextlib.suppress(ModelNotFound):
            assert await asking == [vector_of("a")]
    await until(lambda: house.models.used == Footprint(), seconds=10)


async def test_following_again_and_again_drops_nobody(house: House) -> None:
    """Requests go on while every second look finds the model otherwise."""
    answered = 0

    async def ask() -> None:
        nonlocal answered
        for _ in range(20):
            assert await house.ask("a") == [vector_of("a")]
            answered += 1
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    for length in range(1, 40):
        house.follow(entries=entries({"id": "a", "max_length": length}))
        await asyncio.sleep(0.001)
    await asyncio.gather(*asking)
    assert answered == 160
