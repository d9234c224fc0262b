"""Models added, changed and removed while they are used: whoever asked is answered, and nothing stays behind."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.errors import ModelLoadFailed, ModelNotFound, ResourceExhausted, ServiceError
from homelab_ai.models.files import places
from homelab_ai.models.inventory import ENTRY_TYPES, Entry
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.state import State
from support.hosts import VECTORS, vector_of
from support.house import House, quiet, until

pytestmark = pytest.mark.anyio


def entry(model_id: str, **more: Any) -> Entry:
    return ENTRY_TYPES["text_embedding"].model_validate({"id": model_id, "hf_model": f"org/{model_id}", **more})


async def told(asking: "asyncio.Task[Any]") -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await asking
    return raised.value


def removing(house: House, name: str) -> "asyncio.Task[int]":
    return asyncio.create_task(house.models.remove(house.models.catalogue.get(name)))


async def test_an_added_model_is_served_and_forgotten_when_it_is_removed(house: House) -> None:
    model = await house.models.add("text_embedding", entry("new"))
    assert await house.ask("new") == [vector_of("new")]
    await house.models.remove(model)
    assert house.host("new").stopped
    assert house.models.used == Footprint()
    with pytest.raises(ModelNotFound):
        house.models.catalogue.get("new")


async def test_additions_and_removals_outlive_the_registry(tmp_path: Path) -> None:
    state = State.open(tmp_path / "data")
    house = House(tmp_path, state=state)
    await house.models.add("text_embedding", entry("new", default=True))
    await house.models.remove(house.models.catalogue.get("b"))
    await house.models.close()
    house = House(tmp_path, state=state)
    assert [model.id for model in house.models.catalogue] == ["a", "c", "d", "new"]
    assert await house.ask("new")
    assert house.models.catalogue.choose(None, "text_embedding").id == "new"
    await house.models.close()
    state.close()


async def test_a_model_in_use_is_removed_when_its_requests_are_answered(house: House) -> None:
    asking = await house.at_work("a", 3)
    gone = removing(house, "a")
    await quiet()
    assert not gone.done()
    assert house.models.used == Footprint(BYTES_PER_GB), "what is leaving still takes its memory"
    with pytest.raises(ModelNotFound):
        await house.ask("a")
    house.busy["a"].set()
    assert await asyncio.gather(*asking) == [[vector_of("a")]] * 3
    await gone
    assert not house.host("a").stopped_under_a_run
    assert house.models.used == Footprint()


async def test_a_model_is_removed_while_it_is_loaded(house: House) -> None:
    house.hosts.starting = asyncio.Event()
    asking = [house.asking("a") for _ in range(3)]
    await until(lambda: house.hosts.asked)
    await asyncio.wait_for(removing(house, "a"), 5)
    for each in asking:
        error = await told(each)
        assert isinstance(error, ModelNotFound)
        assert error.message == "Model 'a' has just been removed"
    assert (house.hosts.started, house.models.used) == ([], Footprint())


async def test_the_room_of_a_load_that_is_ended_goes_to_the_next(house: House) -> None:
    house.hosts.starting = asyncio.Event()
    first = [house.asking("a"), house.asking("b")]  # as many as fit
    await until(lambda: len(house.hosts.asked) == 2)
    third = house.asking("c")
    await quiet()
    await removing(house, "a")
    house.hosts.starting.set()
    assert await asyncio.wait_for(third, 5) == [vector_of("c")]
    assert isinstance(await told(first[0]), ModelNotFound)
    assert await first[1]


async def test_a_model_is_removed_while_it_waits_for_room(house: House) -> None:
    house.busy.update(a=asyncio.Event(), b=asyncio.Event())
    working = [house.asking("a"), house.asking("b")]
    await until(lambda: len(house.hosts.started) == 2)
    waiting = house.asking("c")
    await quiet()
    await asyncio.wait_for(removing(house, "c"), 5)
    assert isinstance(await told(waiting), ModelNotFound)
    for event in house.busy.values():
        event.set()
    await asyncio.gather(*working)
    assert not house.models._scheduler._queue


async def test_a_model_is_removed_before_its_size_is_known(house: House) -> None:
    waiting = house.asking("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(removing(house, "a"), 5)
    assert isinstance(await told(waiting), ModelNotFound)
    await quiet()
    assert house.hosts.asked == []


async def test_a_model_is_removed_after_the_request_has_looked_it_up(house: House) -> None:
    model = house.models.catalogue.get("a")
    await house.models.remove(model)
    for use in (house.models.load(model), house.models.unload(model), house.models.remove(model)):
        with pytest.raises(ModelNotFound):
            await use
    with pytest.raises(ModelNotFound):
        house.models.change(model, {"enabled": False})
    with pytest.raises(ModelNotFound):
        async with house.models.lease(model):
            pass


async def test_a_request_that_holds_the_model_may_go_on_but_not_load_it_again(house: House) -> None:
    async with house.models.lease(house.models.catalogue.get("a")) as lease:
        await lease.run(VECTORS, {}, ["one"])
        gone = removing(house, "a")
        await quiet()
        assert await lease.run(VECTORS, {}, ["two"]) == [vector_of("two")]
        house.host("a").kill()
        with pytest.raises(ModelNotFound):
            await lease.run(VECTORS, {}, ["three"])
    await gone
    assert len(house.hosts.started) == 1


async def test_a_model_added_again_waits_for_the_end_of_the_former_process(house: House) -> None:
    (working,) = await house.at_work("a")
    gone = removing(house, "a")
    await quiet()
    await house.models.add("text_embedding", entry("A"))
    again = house.asking("A")
    await quiet()
    assert [host.plan.model_id for host in house.hosts.started] == ["a"]
    house.busy.pop("a").set()
    assert await working == [vector_of("a")]
    assert await again == [vector_of("A")]
    await gone
    assert [host.plan.model_id for host in house.hosts.started if host.alive] == ["A"]


async def test_removing_gives_up_waiting_but_is_done(house: House) -> None:
    (working,) = await house.at_work("a")
    gone = removing(house, "a")
    await quiet()
    gone.cancel()
    await quiet()
    house.busy["a"].set()
    await working
    await quiet()
    assert (house.host("a").stopped, house.models.used) == (True, Footprint())
    assert house.models._scheduler.slots == list(house.models._slots.values())


async def test_the_end_of_the_service_does_not_forget_what_is_leaving(house: House) -> None:
    (working,) = await house.at_work("a")
    gone = removing(house, "a")
    await quiet()
    await asyncio.wait_for(house.models.close(), 5)
    assert house.host("a").stopped
    assert isinstance(await told(working), ModelNotFound | ResourceExhausted)
    await gone


async def test_a_new_keep_alive_holds_at_once(house: House) -> None:
    model = house.models.catalogue.get("a")
    await house.ask("a")
    house.clock.advance(60)
    house.models.change(model, {"keep_alive_minutes": 2.0})
    assert house.models.snapshot(model).unloads_in_seconds == 60
    house.clock.advance(59)
    await quiet()
    assert house.loaded() == ["a"]
    house.clock.advance(1)
    await until(lambda: not house.loaded())
    await house.ask("a")
    house.models.change(model, {"keep_alive_minutes": -1.0})
    house.clock.advance(100_000)
    await quiet()
    assert house.loaded() == ["a"]
    house.models.change(model, {"keep_alive_minutes": None})
    await until(lambda: not house.loaded())


async def test_a_disabled_model_goes_when_its_requests_are_answered(house: House) -> None:
    (working,) = await house.at_work("a")
    model = house.models.change(house.models.catalogue.get("a"), {"enabled": False})
    assert not model.settings.enabled
    await quiet()
    assert house.states()["a"] == "draining"
    house.busy["a"].set()
    assert await working
    await until(lambda: house.states()["a"] == "available")


async def test_a_model_disabled_while_it_is_loaded_answers_those_who_wait(house: House) -> None:
    house.hosts.starting = asyncio.Event()
    waiting = house.asking("a")
    await until(lambda: house.hosts.asked)
    house.models.change(house.models.catalogue.get("a"), {"enabled": False})
    house.hosts.starting.set()
    assert await waiting == [vector_of("a")]
    await until(lambda: house.states()["a"] == "available")


@pytest.mark.parametrize("moment", ["it waits for room", "it is downloaded"])
async def test_a_pinned_model_disabled_before_it_is_loaded_does_not_stay(house: House, moment: str) -> None:
    if moment == "it is downloaded":
        house.hosts.progress = asyncio.Queue()
    else:
        house.busy.update(a=asyncio.Event(), b=asyncio.Event())
    working = [house.asking(name) for name in house.busy]
    await until(lambda: len(house.hosts.started) == len(working))
    waiting = house.asking("d")
    await until(lambda: len(house.hosts.downloads) > len(working))
    house.models.change(house.models.catalogue.get("d"), {"enabled": False})
    if house.hosts.progress:
        house.hosts.progress.put_nowait((1, 1))
    for event in house.busy.values():
        event.set()
    await asyncio.gather(waiting, *working)
    await until(lambda: house.states()["d"] == "available")


async def test_folders_that_do_not_answer_hold_up_nobody_else(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of models that are added, and of models that are offered: more than any pool has threads."""
    answers, really = threading.Event(), places.is_model

    def slowly(folder: Path) -> bool:
        return answers.wait(20) if "dead" in folder.name else really(folder)

    for n in range(40):
        await house.models.add("text_embedding", entry(f"offered-{n}", hf_model=f"org/dead-{n}"))
    monkeypatch.setattr(places, "is_model", slowly)
    folders = [str(tmp_path / "models" / f"dead-{n}") for n in range(40)]
    waiting = [
        asyncio.create_task(house.models.add("text_embedding", entry(f"added-{n}", hf_model=folder)))
        for n, folder in enumerate(folders)
    ]
    asking = [house.asking(f"offered-{n}") for n in range(40)]
    await quiet()
    assert await asyncio.wait_for(house.ask("a"), 5)
    await asyncio.wait_for(asyncio.to_thread(len, "the pool is free"), 5)
    for request in asking:
        request.cancel()
    answers.set()
    await asyncio.gather(*waiting)


async def test_a_folder_that_cannot_be_read_is_a_failed_load_in_words(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*args: object, **options: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", "/mnt/nas/models")

    monkeypatch.setattr(places, "locate", stale)
    with pytest.raises(ModelLoadFailed, match=r"cannot be looked at: Stale file handle$") as raised:
        await house.ask("a")
    assert raised.value.retry_after_seconds == 5


async def test_a_peak_does_not_keep_a_model_out_after_a_restart(tmp_path: Path) -> None:
    state = State.open(tmp_path / "data")
    house = House(tmp_path, state=state)
    await house.ask("a")
    house.host("a").takes = Footprint(3 * BYTES_PER_GB)
    house.clock.advance(11)
    await house.ask("a")
    await until(lambda: not house.loaded())
    await house.models.close()
    house = House(tmp_path, state=state)
    assert await house.ask("a")
    await house.models.close()
    state.close()
