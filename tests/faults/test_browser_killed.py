"""`kill -9` of the browser, or a part of it, while twenty pages are read: no page hangs, and nothing is left behind."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest

from support.browsers import NEEDS_CHROMIUM
from support.reading import Reading, reading
from support.server import assert_goes_first_when_memory_ends, wait_for
from support.sites import Asked, Served
from support.villain import ORDINARY, TEXT

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM, pytest.mark.timeout(180)]

PAGES, AT_ONCE = 20, 4


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all, because they share a service."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reading]:
    endless = Served("<!doctype html><p>Before</p><script>while (true) {}</script>")
    async with reading(tmp_path_factory.mktemp("home"), {"/": ORDINARY, "/endless": endless}) as started:
        yield started


def is_page(answer: httpx.Response) -> bool:
    """Whether it is the page as it should be; if not, see that it is an error in the form of all errors."""
    said: dict[str, Any] = answer.json()
    if answer.status_code == 200:
        assert TEXT in said["text"]
        assert (said["complete"], said["rendered"]) == (True, True)
        return True
    assert said["error"].keys() >= {"code", "message", "request_id"}, said
    assert said["error"]["code"] == "CRAWL_FAILED"
    return False


def kill(victims: list[psutil.Process]) -> None:
    assert victims
    for each in victims:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has gone with another
            each.kill()


def is_busy(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cpu_percent(0.1) > 30
    return False


async def tidy_again(home: Reading, before: list[psutil.Process]) -> None:
    """Wait until these are gone, and no zombie and no folder of theirs is left."""
    for condition in (
        lambda: not any(each.is_running() for each in before),
        lambda: not home.zombies(),
        lambda: len(home.folders()) == 1,
    ):
        await asyncio.to_thread(wait_for, condition)


@pytest.mark.parametrize("victim", ["Chromium", "renderers", "driver", "process"])
async def test_pages_in_flight_are_tried_again_or_fail_cleanly(home: Reading, victim: str) -> None:
    released = asyncio.Event()

    async def held(asked: Asked) -> Served:
        await released.wait()
        return ORDINARY

    home.site.pages["/held"] = held
    home.site.asked.clear()
    crawling = [asyncio.create_task(home.crawl("/held", wait_for_js=True)) for _ in range(PAGES)]
    while home.site.paths().count("/held") < AT_ONCE:
        await asyncio.sleep(0.02)
    before = home.browser()
    kill(before[victim])
    released.set()
    pages = [is_page(answer) for answer in await asyncio.gather(*crawling)]
    assert sum(pages) >= PAGES - AT_ONCE, "no other page suffers"
    for answer in await asyncio.gather(*(home.crawl("/", wait_for_js=True) for _ in range(AT_ONCE))):
        assert is_page(answer)
    await tidy_again(home, before[victim] if victim == "renderers" else [*itertools.chain(*before.values())])


async def test_a_page_without_end_does_not_outlive_the_browser(home: Reading) -> None:
    crawling = asyncio.create_task(home.crawl("/endless", wait_for_js=True, timeout_ms=6000))
    await asyncio.to_thread(wait_for, lambda: any(map(is_busy, home.browser()["renderers"])), 30)
    before = home.browser()
    kill(before["process"])
    answer = await crawling
    assert answer.status_code == 504 or answer.json()["complete"] is False, answer.text
    await tidy_again(home, [*itertools.chain(*before.values())])


async def test_the_kernel_is_told_to_end_it_first(home: Reading) -> None:
    assert is_page(await home.crawl("/", wait_for_js=True))
    (process,) = home.browser()["process"]
    assert_goes_first_when_memory_ends(process.pid)


async def test_nothing_outlives_the_service(home: Reading) -> None:
    assert is_page(await home.crawl("/", wait_for_js=True))
    before = home.children()
    assert len(before) > 4
    home.server.kill()
    await asyncio.to_thread(wait_for, lambda: not any(each.is_running() for each in before))
    await asyncio.to_thread(wait_for, lambda: not home.folders())
