"""Downloads: one for all who want the same model, told to everybody who follows it, and ended when it should be."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.errors import Conflict, ModelLoadFailed, ModelNotFound, ResourceExhausted
from homelab_ai.models.catalogue import Model
from homelab_ai.models.files import places
from homelab_ai.models.files.downloads import DownloadFailed, Downloads, Progress
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed, HostPlan, OnProgress
from homelab_ai.models.inventory import ENTRY_TYPES
from support.clock import Clock
from support.hosts import FakeHost, FakeHosts, vector_of
from support.house import House, quiet, until

pytestmark = pytest.mark.anyio


def model(model_id: str, hf_model: str = "org/name", revision: str | None = None) -> Model:
    settings = {"id": model_id, "hf_model": hf_model, "revision": revision}
    return Model("text_embedding", ENTRY_TYPES["text_embedding"].model_validate(settings), default=False)


ONE = model("one")
GB = 1_000_000_000


@pytest.fixture
def hosts() -> FakeHosts:
    hosts = FakeHosts()
    hosts.progress = asyncio.Queue()
    return hosts


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def downloads(hosts: FakeHosts, tmp_path: Path, clock: Clock) -> AsyncIterator[Downloads]:
    downloads = Downloads(hosts, tmp_path, clock)
    yield downloads
    await downloads.close()


def advance(hosts: FakeHosts, done: int, total: int) -> None:
    assert hosts.progress
    hosts.progress.put_nowait((done, total))


async def followed(downloads: Downloads, of: Model) -> list[Progress]:
    return [progress async for progress in downloads.follow(of)]


async def test_everybody_who_wants_it_joins_one_download(downloads: Downloads, hosts: FakeHosts) -> None:
    others = [ONE, model("two"), model("three")]
    waiting = [asyncio.create_task(downloads.have(each)) for each in others for _ in range(10)]
    await until(lambda: hosts.downloads)
    downloads.start(ONE)
    advance(hosts, 10, 10)  # while some still look whether it is here
    await asyncio.gather(*waiting)
    assert [plan.options["hf_model"] for plan in hosts.downloads] == ["org/name"]
    assert downloads.of(model("another")) == Progress("done", 10, 10)


@pytest.mark.parametrize("other", [model("one", "org/other"), model("one", revision="v1")])
async def test_another_name_or_revision_is_another_download(
    downloads: Downloads, hosts: FakeHosts, other: Model
) -> None:
    downloads.start(ONE)
    await until(lambda: hosts.downloads)
    advance(hosts, 30, 100)
    await quiet()
    downloads.start(other)
    await until(lambda: len(hosts.downloads) == 2)
    assert (hosts.downloads[1].options["hf_model"], hosts.downloads[1].options["revision"]) == (
        other.settings.hf_model,
        other.settings.revision,
    )
    assert [plan.options["reserved_bytes"] for plan in hosts.downloads] == [0, 70]


async def test_progress_is_told_to_all_who_follow_from_where_it_is(downloads: Downloads, hosts: FakeHosts) -> None:
    downloads.start(ONE)
    early = asyncio.create_task(followed(downloads, ONE))
    await quiet()
    for done in (0, 4, 7):
        advance(hosts, done, 10)
        await quiet()
    late = asyncio.create_task(followed(downloads, ONE))
    gone = asyncio.create_task(followed(downloads, ONE))
    await quiet()
    gone.cancel()
    advance(hosts, 10, 10)
    assert [(progress.state, progress.bytes) for progress in await early] == [
        ("running", 0),
        ("running", 0),
        ("running", 4),
        ("running", 7),
        ("done", 10),  # whoever follows may miss a step, but not the end
    ]
    assert [progress.bytes for progress in await late] == [7, 10]
    assert await followed(downloads, ONE) == [Progress("done", 10, 10)]


async def test_how_long_it_will_take_is_judged_by_what_has_come(
    downloads: Downloads, hosts: FakeHosts, clock: Clock
) -> None:
    downloads.start(ONE)
    judged = []
    for done, seconds in ((1000, 0), (1010, 1), (1100, 9), (1100, 10), (2000, 20)):
        clock.advance(seconds)
        advance(hosts, done, 2000)
        await quiet()
        progress = downloads.of(ONE)
        assert progress
        judged.append(progress.seconds_left)
    assert judged == [None, None, 90, 180, None], "1000 bytes were here before, 100 came in 10 s, then 100 in 20"


async def test_a_purge_ends_the_download_and_the_next_waits_for_it(
    downloads: Downloads, hosts: FakeHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, order = threading.Event(), []

    def purge(hf_model: str, models_dir: Path) -> int:
        assert go_on.wait(10)
        order.append("purged")
        return 7

    monkeypatch.setattr(places, "purge", purge)
    hosts.on_download = lambda plan: order.append("downloaded")
    downloads.start(model("another", revision="v1"))
    await until(lambda: hosts.downloads)
    purging = asyncio.create_task(downloads.purge(ONE))
    await until(lambda: downloads._purges)
    assert downloads.of(model("another", revision="v1")) == Progress("failed", failure="the download was ended")
    waiting = [asyncio.create_task(downloads.have(ONE)), asyncio.create_task(downloads.purge(ONE))]
    downloads.start(model("another", revision="v2"))
    await quiet()
    assert len(hosts.downloads) == 1
    go_on.set()
    assert await purging == 7
    advance(hosts, 1, 1)
    advance(hosts, 1, 1)
    await asyncio.wait(waiting, timeout=10)
    assert order[0] == "purged"


async def test_what_was_never_downloaded_has_nothing_to_follow(downloads: Downloads) -> None:
    assert await followed(downloads, ONE) == []
    assert downloads.of(ONE) is None


@pytest.mark.parametrize("error", [HostLoadFailed("the hub cannot be reached"), HostDied("it was killed")])
async def test_a_failure_is_told_and_the_next_try_is_a_new_one(
    downloads: Downloads, hosts: FakeHosts, error: Exception
) -> None:
    hosts.on_download = lambda plan: error
    advance(hosts, 3, 3)
    with pytest.raises(DownloadFailed, match=str(error)):
        await downloads.have(ONE)
    assert downloads.of(ONE) == Progress("failed", 3, 3, failure=str(error))
    hosts.on_download = lambda plan: None
    advance(hosts, 3, 3)
    await downloads.have(ONE)
    assert len(hosts.downloads) == 2


async def test_a_fault_of_the_service_is_not_told_in_full(downloads: Downloads, hosts: FakeHosts) -> None:
    hosts.on_download = lambda plan: ZeroDivisionError("/home/me/secret")
    advance(hosts, 3, 3)
    with pytest.raises(DownloadFailed) as raised:
        await downloads.have(ONE)
    assert "secret" not in str(raised.value)


async def test_it_goes_on_when_those_who_wait_have_gone(downloads: Downloads, hosts: FakeHosts) -> None:
    waiting = asyncio.create_task(downloads.have(ONE))
    await until(lambda: hosts.downloads)
    waiting.cancel()
    await quiet()
    assert downloads.of(ONE) == Progress("running")
    advance(hosts, 5, 5)
    await quiet()
    assert downloads.of(ONE) == Progress("done", 5, 5)


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_one_that_is_ended_leaves_nobody_waiting(downloads: Downloads, hosts: FakeHosts, end: str) -> None:
    waiting = asyncio.create_task(downloads.have(ONE))
    await until(lambda: hosts.downloads)
    if end == "cancel":
        await asyncio.wait(downloads.cancel(ONE))
    else:
        await downloads.close()
    with pytest.raises(DownloadFailed, match="was ended"):
        await waiting
    assert downloads.cancel(ONE) == []


async def test_a_purge_waits_for_the_process_of_a_download_that_is_ended_already(
    downloads: Downloads, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, order = asyncio.Event(), list[str]()

    async def start(plan: HostPlan, on_progress: OnProgress | None = None, /) -> FakeHost:
        try:
            return await hosts(plan, on_progress)
        except asyncio.CancelledError:
            assert on_progress
            on_progress({"bytes": 1, "total_bytes": 2})  # a last word that was on its way
            await gone.wait()
            order.append("its process has ended")
            raise

    monkeypatch.setattr(downloads, "_start_host", start)

    def purge(hf_model: str, models_dir: Path) -> int:
        order.append("purged")
        return 7

    monkeypatch.setattr(places, "purge", purge)
    downloads.start(ONE)
    await until(lambda: hosts.downloads)
    ending = downloads.cancel(ONE)
    await quiet()
    assert downloads.of(ONE) == Progress("failed", failure="the download was ended")
    purging = asyncio.create_task(downloads.purge(ONE))
    await quiet()
    gone.set()
    assert await purging == 7
    assert order == ["its process has ended", "purged"]
    assert all(task.cancelled() for task in ending)


async def test_what_is_here_is_not_downloaded(downloads: Downloads, hosts: FakeHosts, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "org" / "name").mkdir(parents=True, exist_ok=True)
        (tmp_path / "org" / "name" / name).write_text("{}")
    await downloads.have(ONE)
    await downloads.have(model("folder", "/no/such/folder"))
    await downloads.have(model("packaged", "sentence-transformers/all-MiniLM-L6-v2"))
    assert hosts.downloads == []


# --- in the registry, whose models are nowhere on this machine


@pytest.fixture
def slow(house: House) -> House:
    house.hosts.progress = asyncio.Queue()
    return house


async def test_a_model_that_is_nowhere_is_downloaded_and_then_loaded(slow: House) -> None:
    asking = [slow.asking("a") for _ in range(5)]
    await until(lambda: slow.hosts.downloads)
    advance(slow.hosts, 1, 2)
    await quiet()
    assert (slow.states()["a"], slow.hosts.asked) == ("downloading", [])
    snapshot = slow.models.snapshot(slow.models.catalogue.get("a"))
    assert (snapshot.download, snapshot.active_requests) == (Progress("running", 1, 2), 5)
    advance(slow.hosts, 2, 2)
    assert await asyncio.gather(*asking) == [[vector_of("a")]] * 5
    assert (len(slow.hosts.downloads), slow.hosts.downloads[0].model_id, slow.loaded()) == (1, "a", ["a"])


async def test_a_download_holds_up_no_other_model(slow: House) -> None:
    first = slow.asking("a")
    await until(lambda: slow.hosts.downloads)
    second = slow.asking("b")
    await until(lambda: len(slow.hosts.downloads) == 2)
    third = slow.asking("c")
    await until(lambda: len(slow.hosts.downloads) == 3)
    for _ in range(3):
        advance(slow.hosts, 2, 2)
    assert await asyncio.gather(first, second, third)


async def test_a_failed_download_is_a_failed_load_with_its_back_off(house: House) -> None:
    house.hosts.on_download = lambda plan: HostLoadFailed("the hub cannot be reached")
    for _ in range(3):
        with pytest.raises(ModelLoadFailed) as raised:
            await house.ask("a")
        assert raised.value.message == "Model 'a' could not be loaded: the hub cannot be reached"
        assert raised.value.retry_after_seconds == 5
    assert (len(house.hosts.downloads), house.states()["a"]) == (1, "failed")
    house.hosts.on_download = lambda plan: None
    house.clock.advance(5)
    assert await house.ask("a")
    assert house.states()["a"] == "ready"


async def test_a_pull_by_hand_that_fails_leaves_the_model_as_it_is(house: House) -> None:
    await house.ask("a")
    house.hosts.on_download = lambda plan: HostLoadFailed("the hub cannot be reached")
    picked = house.models.catalogue.get("a")
    house.models.pull(picked)
    told = [progress.state async for progress in house.models.follow_pull(picked)]
    assert told == ["running", "failed"]
    assert house.states()["a"] == "ready"
    assert await house.ask("a")


async def test_who_waits_for_a_download_may_give_up(slow: House) -> None:
    asking = slow.asking("a")
    await until(lambda: slow.hosts.downloads)
    asking.cancel()
    await quiet()
    assert slow.states()["a"] == "downloading"
    advance(slow.hosts, 2, 2)
    await until(lambda: slow.states()["a"] == "available")
    assert slow.hosts.asked == []


async def test_whom_a_download_would_not_let_answer_in_time_is_refused_at_once(slow: House) -> None:
    first = slow.asking("a")
    await until(lambda: slow.hosts.downloads)
    for done, seconds in ((0, 0), (GB, 10)):
        slow.clock.advance(seconds)
        advance(slow.hosts, done, 14 * GB)
        await quiet()
    with pytest.raises(ResourceExhausted, match=r"1\.00 of 14\.00 GB are here") as raised:
        await slow.ask("a")
    assert raised.value.retry_after_seconds == 130
    advance(slow.hosts, 3 * GB, 14 * GB)
    await quiet()
    second = slow.asking("a")  # it is faster now, and will be here in 37 s
    await quiet()
    advance(slow.hosts, 14 * GB, 14 * GB)
    assert await first == await second == [vector_of("a")]


async def test_a_model_removed_while_it_is_downloaded_ends_the_download(slow: House) -> None:
    asking = slow.asking("a")
    await until(lambda: slow.hosts.downloads)
    await asyncio.wait_for(slow.models.remove(slow.models.catalogue.get("a")), 5)
    with pytest.raises(ModelNotFound):
        await asking
    assert slow.models._downloads.of(model("a", "org/a")) == Progress("failed", failure="the download was ended")


async def test_a_download_that_another_model_needs_goes_on(slow: House) -> None:
    twin = await slow.models.add("text_embedding", model("twin", "org/a").settings)
    asking = slow.asking("twin")
    await until(lambda: slow.hosts.downloads)
    await slow.models.remove(slow.models.catalogue.get("a"))
    advance(slow.hosts, 2, 2)
    assert await asking == [vector_of("twin")]
    assert slow.models.snapshot(twin).download == Progress("done", 2, 2)


async def test_the_end_of_the_service_ends_downloads(slow: House) -> None:
    asking: asyncio.Task[Any] = slow.asking("a")
    await until(lambda: slow.hosts.downloads)
    await asyncio.wait_for(slow.models.close(), 5)
    with pytest.raises(Exception, match="shutting down"):
        await asking


async def test_a_folder_is_not_pulled_and_shared_files_are_not_purged(house: House, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    folder = await house.models.add("text_embedding", model("mine", str(tmp_path / "models" / "mine")).settings)
    with pytest.raises(Conflict, match="nothing to download"):
        house.models.pull(folder)
    assert await house.models.remove(folder, purge=True) == 0
    assert (tmp_path / "models" / "mine" / "config.json").exists()

    twin = await house.models.add("text_embedding", model("twin", "org/a").settings)
    blobs = tmp_path / "models" / "models--org--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(b"12345")
    with pytest.raises(Conflict, match="model 'a' has the same files"):
        await house.models.remove(twin, purge=True)
    assert await house.models.remove(twin) == 0
    assert await house.models.remove(house.models.catalogue.get("a"), purge=True) == 5
    assert not blobs.parent.exists()


async def test_a_pull_by_hand_ends_the_back_off_of_a_failed_download(house: House) -> None:
    house.hosts.on_download = lambda plan: HostLoadFailed("the hub cannot be reached")
    with pytest.raises(ModelLoadFailed):
        await house.ask("a")
    house.hosts.on_download = lambda plan: None
    house.models.pull(house.models.catalogue.get("a"))
    assert await house.ask("a")


async def test_a_download_begun_in_the_moment_that_another_is_ended_is_its_own(slow: House) -> None:
    first = slow.models.catalogue.get("a")
    slow.models.pull(first)
    await until(lambda: slow.hosts.downloads)
    removal = asyncio.create_task(slow.models.remove(first))
    await asyncio.sleep(0)
    again = await slow.models.add("text_embedding", model("again", "org/a").settings)
    slow.models.pull(again)
    asking = slow.asking("again")
    await removal
    await until(lambda: len(slow.hosts.downloads) == 2)
    advance(slow.hosts, 2, 2)
    assert await asking == [vector_of("again")]


async def test_nothing_is_downloaded_after_the_end(house: House) -> None:
    await house.models.close()
    house.models.pull(house.models.catalogue.get("a"))
    await quiet()
    assert house.hosts.downloads == []


@pytest.mark.parametrize("way", ["{models}/models--org--a/snapshots/abc", "models--org--a/snapshots/abc"])
async def test_a_model_that_the_configuration_takes_from_a_download_is_not_lost_with_it(
    tmp_path: Path, way: str
) -> None:
    snapshot = tmp_path / "models" / "models--org--a" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    house = House(tmp_path, more=[{"id": "mine", "hf_model": way.format(models=tmp_path / "models")}])
    with pytest.raises(Conflict, match="model 'mine' has the same files"):
        await house.models.remove(house.models.catalogue.get("a"), purge=True)
    assert (snapshot / "config.json").exists()
    await house.models.close()
