"""Pages read by the real process: ended, hung, over its memory, and gone when nobody has any."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest

from homelab_ai.crawling.extraction.extracted import Extracted, ExtractionFailed, NotReadable
from homelab_ai.crawling.extractor import Extractor
from homelab_ai.crawling.pages import Fetched
from homelab_ai.models.hosts.host import Host, HostPlan, OnProgress
from support.clock import Clock

pytestmark = pytest.mark.anyio

WISHES = ("markdown", "html", "links", "metadata")
PAGE = Fetched(
    "https://example.org/", 200, "text/html", b"<title>A page</title><h1>Hello</h1><p>It has <a href=/b>a link</a>.</p>"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def extractor(clock: Clock) -> AsyncIterator[Extractor]:
    extractor = Extractor(Host.start, clock, processes=2)
    yield extractor
    await extractor.close()


async def read(extractor: Extractor) -> Extracted:
    return await extractor.extract(PAGE, WISHES)


async def test_a_page_is_read(extractor: Extractor) -> None:
    found = await read(extractor)
    assert found.title == "A page"
    assert found.text == "Hello\nIt has a link."
    assert found.markdown == "# Hello\n\nIt has [a link](https://example.org/b)."
    assert found.links == [("https://example.org/b", "a link")]
    assert found.html == PAGE.body.decode()


async def test_what_nobody_wants_stays_away(extractor: Extractor) -> None:
    found = await extractor.extract(PAGE, ["links"])
    assert found.text
    assert (found.markdown, found.html, found.metadata) == ("", None, {})
    assert found.links


async def test_what_has_no_text_is_refused(extractor: Extractor) -> None:
    with pytest.raises(NotReadable, match="image/png"):
        await extractor.extract(replace(PAGE, content_type="image/png"), WISHES)


async def test_a_page_that_kills_the_process_twice_is_refused_and_the_next_is_read(extractor: Extractor) -> None:
    async def kill_twice() -> None:
        killed: list[Host] = []
        while len(killed) < 2:
            for host in extractor.hosts:
                if host not in killed and host._under_way:
                    killed.append(host)
                    os.kill(host.pid, signal.SIGKILL)
            await asyncio.sleep(0.001)

    slow = replace(PAGE, body=b"<p>" + b"<b>word</b> <a href=x>link</a><p>" * 100_000)
    killing = asyncio.create_task(kill_twice())
    with pytest.raises(ExtractionFailed, match="ends the program"):
        await extractor.extract(slow, WISHES)
    await killing
    assert (await read(extractor)).title == "A page"


async def test_a_page_that_takes_too_long_costs_only_itself() -> None:
    extractor = Extractor(Host.start, asyncio.get_running_loop(), seconds_for_one_page=1)
    await read(extractor)
    (host,) = extractor.hosts
    os.kill(host.pid, signal.SIGSTOP)  # what a regular expression without an end looks like from here
    began = time.monotonic()
    with pytest.raises(ExtractionFailed, match="too long"):
        await extractor.extract(PAGE, WISHES)
    assert time.monotonic() - began < 10
    assert (await read(extractor)).title == "A page"
    await extractor.close()


async def test_a_page_over_the_memory_costs_only_itself(clock: Clock) -> None:
    async def start(plan: HostPlan, on_progress: OnProgress | None = None) -> Host:
        return await Host.start(replace(plan, options={"memory_bytes": 30_000_000}), on_progress)

    extractor = Extractor(start, clock)
    await read(extractor)
    (host,) = extractor.hosts
    before = psutil.Process(host.pid).memory_info().vms
    large = replace(PAGE, body=b"<p>" + b"<i>word </i><p>" * 300_000)
    with contextlib.suppress(ExtractionFailed):  # or what could be read of it
        await extractor.extract(large, WISHES)
    if host.alive:
        assert psutil.Process(host.pid).memory_info().vms < before + 40_000_000
    assert (await read(extractor)).title == "A page"
    await extractor.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<div>" * 100_000 + b"deep",
        b"<p>" + b"a" * 20_000_000,
        b"<table><tr><td>" * 30_000,
        b"<p " + b"a=b " * 1_000_000 + b">",
        b"&lt;" * 2_000_000,
        b"<a href=x>" * 50_000,
        b"[" * 1_000_000,
    ],
    ids=["deep", "one text", "tables in tables", "attributes", "entities", "links in links", "brackets"],
)
async def test_no_hostile_page_does_harm(extractor: Extractor, body: bytes) -> None:
    with contextlib.suppress(ExtractionFailed):
        await extractor.extract(replace(PAGE, body=body), WISHES)
    assert (await read(extractor)).title == "A page"


async def test_as_many_processes_read_as_there_is_work_for(extractor: Extractor) -> None:
    for _ in range(3):
        await read(extractor)
    assert len(extractor.hosts) == 1
    pages = await asyncio.gather(*(read(extractor) for _ in range(6)))
    assert [page.title for page in pages] == ["A page"] * 6
    assert len(extractor.hosts) == 2


async def test_a_process_goes_when_no_page_has_come_for_a_minute(extractor: Extractor, clock: Clock) -> None:
    await asyncio.gather(*(read(extractor) for _ in range(2)))
    processes = psutil.Process().children()
    assert len(processes) == 2
    clock.advance(59)
    await read(extractor)
    clock.advance(59)
    while all(process.is_running() for process in processes):
        await asyncio.sleep(0.01)
    assert len(extractor.hosts) == 1, "the one that has read meanwhile"
    clock.advance(1)
    while any(process.is_running() for process in processes):
        await asyncio.sleep(0.01)
    assert extractor.hosts == []
    assert (await read(extractor)).title == "A page"
