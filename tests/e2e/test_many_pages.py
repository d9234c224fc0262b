"""Many pages, of all kinds, one after the other: neither processes nor memory, descriptors nor folders pile up.

`make soak` reads two thousand, which takes the browser through some replacements.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from support.browsers import NEEDS_CHROMIUM
from support.reading import Reading, configuration, reading
from support.server import wait_for
from support.sites import Served
from support.villain import TEXT

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

PAGES = int(os.environ.get("HOMELAB_AI_TEST_PAGES", "40"))
OF_A_ROUND = 10
WARM_UP_ROUNDS = 2 if PAGES < 1000 else 20
MB = 1024 * 1024

SCRIPTED = """<!doctype html><title>Scripted</title><body><img src=/picture.svg><link rel=stylesheet href=/style.css>
<script src=/script.js></script><script>fetch("/data").then(r => r.json()).then(d => write(d.text))</script>"""
SITE = {
    "/plain": Served(f"<!doctype html><title>Plain</title><main><h1>House</h1><p>{TEXT}</p></main>" + "<hr>" * 20_000),
    "/scripted": Served(SCRIPTED),
    "/script.js": Served(
        "const write = text => document.body.insertAdjacentHTML('beforeend', `<main><p>${text}</p></main>`)",
        "text/javascript",
    ),
    "/style.css": Served("p { color: green }", "text/css"),
    "/picture.svg": Served("<svg xmlns='http://www.w3.org/2000/svg'><circle r='9'/></svg>", "image/svg+xml"),
    "/data": Served(f'{{"text": "{TEXT}"}}', "application/json"),
    "/hangs": Served("<p>Before", then="hang"),
}


@dataclass(frozen=True)
class Figures:
    """Of the service's own process, when it is at nothing."""

    descriptors: int
    megabytes: float

    @classmethod
    def of(cls, home: Reading) -> "Figures":
        service = psutil.Process(home.server.process.pid)
        return cls(service.num_fds(), service.memory_full_info().uss / MB)


async def is_read(home: Reading, path: str, **wishes: object) -> None:
    answer = await home.crawl(path, **wishes)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["complete"], page
    assert TEXT in page["text"], page


async def one_crashes(home: Reading) -> None:
    """The page's process is killed; the page is tried again."""
    held = asyncio.Event()
    released = asyncio.Event()

    async def hold(_: object) -> Served:
        held.set()
        await released.wait()
        return SITE["/plain"]

    home.site.pages["/held"] = hold
    crawling = asyncio.create_task(is_read(home, "/held", wait_for_js=True))
    await held.wait()
    for renderer in home.browser()["renderers"]:
        renderer.kill()
    released.set()
    await crawling


async def one_hangs(home: Reading) -> None:
    answer = await home.crawl("/hangs", wait_for_js=True, timeout_ms=1500)
    assert answer.status_code == 504 or answer.json()["complete"] is False, answer.text


async def one_goes_away(home: Reading) -> None:
    home.site.asked.clear()
    crawling = asyncio.create_task(home.crawl("/hangs", wait_for_js=True))
    while "/hangs" not in home.site.paths():
        await asyncio.sleep(0.01)
    crawling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crawling


HOSTILE: tuple[Callable[[Reading], Awaitable[None]], ...] = (one_crashes, one_hangs, one_goes_away)


async def one_round(home: Reading, number: int) -> None:
    """Ten pages, half of them in the browser: a hostile one comes after the others."""
    home.site.asked.clear()
    await asyncio.gather(
        *(is_read(home, "/plain", wait_for_js=False) for _ in range(5)),
        *(is_read(home, "/scripted") for _ in range(2)),
        is_read(home, "/plain", wait_for_js=True),
        is_read(home, "/scripted", screenshot="full_page"),
    )
    await HOSTILE[number % len(HOSTILE)](home)


async def all_but_the_reader_is_gone(home: Reading) -> None:
    """Wait until the process that extracts pages, which stays for a minute, is the only one below the service."""
    await asyncio.to_thread(wait_for, lambda: home.children() == home.server.hosts() and not home.folders(), 30)


@pytest.mark.timeout(180 + 3 * PAGES)
async def test_nothing_piles_up(tmp_path: Path) -> None:
    async with reading(tmp_path, dict(SITE)) as home:
        browsers: set[int] = set()
        for number in range(PAGES // OF_A_ROUND):
            await one_round(home, number)
            browsers.update(process.pid for process in home.browser()["process"])
            assert len(home.folders()) <= 2, "that of one that is being replaced may still be there"
            if number + 1 == WARM_UP_ROUNDS:
                first = Figures.of(home)
            if number % 20 == 0:
                print(number * OF_A_ROUND, Figures.of(home), len(home.children()))  # for whoever watches the long form
        last = Figures.of(home)
        assert last.descriptors <= first.descriptors + 5
        assert last.megabytes <= first.megabytes + 20, (first, last)
        assert len(browsers) >= 1 + PAGES // 2 // 200
        # Half an hour without a page, as it were.
        (tmp_path / "config.yaml").write_text(configuration(home.site, browser_idle_minutes=0))
        await all_but_the_reader_is_gone(home)
        await is_read(home, "/scripted")
        await all_but_the_reader_is_gone(home)
