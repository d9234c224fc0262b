"""The life of a real Chromium: given up, killed, idle, replaced, orphaned, with its sandbox and without."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from homelab_ai.errors import CrawlFailed
from support.browsers import NEEDS_CHROMIUM, parts_of, processes_of, zombies_below
from support.clock import Clock
from support.lan import at_home
from support.server import wait_for
from support.sites import Asked, Served
from support.web import Web

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]


def gone(processes: list[psutil.Process]) -> bool:
    return not [process for process in processes if process.is_running()]


async def eventually(condition: Any, seconds: float = 10) -> None:
    await asyncio.to_thread(wait_for, condition, seconds)


async def test_a_request_that_is_given_up_leaves_no_page(web: Web) -> None:
    await web.render("<p>Hello")
    before = len(processes_of(web.pid))
    web.site.pages["/hangs"] = Served("<p>", then="hang")
    rendering = asyncio.create_task(web.render(path="/hangs"))
    await eventually(lambda: "/hangs" in web.site.paths())
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    await eventually(lambda: len(processes_of(web.pid)) <= before)
    assert web.browser.at_work == 0


@pytest.mark.parametrize("victim", ["main", "driver", "process"])
async def test_a_killed_browser_is_replaced_and_its_pages_tried_again(own: Web, victim: str) -> None:
    release = asyncio.Event()

    def hold(asked: Asked) -> Served:
        return Served("<p>Hello") if release.is_set() else Served("<p>", then="hang")

    own.site.pages["/held"] = hold
    tasks = [asyncio.create_task(own.render(path="/held")) for _ in range(6)]
    await eventually(lambda: own.site.paths().count("/held") == 4)
    before = processes_of(own.pid)
    (killed,) = parts_of(own.pid)[victim]
    release.set()
    killed.kill()
    fetched = await asyncio.gather(*tasks)
    assert all(b"Hello" in page.body for page in fetched)
    await eventually(lambda: gone(before))
    await eventually(lambda: not zombies_below(os.getpid()))


@pytest.mark.parametrize("victim", ["main", "driver"])
async def test_a_browser_that_was_killed_while_it_was_idle_is_replaced(own: Web, victim: str) -> None:
    await own.render("<p>Hello")
    before = processes_of(own.pid)
    (killed,) = parts_of(own.pid)[victim]
    killed.kill()
    assert b"Hello" in (await own.render("<p>Hello")).body
    await eventually(lambda: gone(before))


def test_a_page_is_read_again_when_this_machine_gets_another_address_meanwhile() -> None:
    seen = at_home(
        "fetch('https://change.test/').catch(() => 0)"
        "  .then(() => document.body.append(document.createElement('article')))"
    )
    assert seen["loads"] == 2


async def test_a_page_that_kills_its_renderer_fails_alone(web: Web) -> None:
    renderers: set[int] = set()

    def hold(asked: Asked) -> Served:
        renderers.update(process.pid for process in parts_of(web.pid)["renderers"])
        return Served("<p>", then="hang")

    web.site.pages["/deadly"] = hold
    rendering = asyncio.create_task(web.render(path="/deadly"))
    for tries in (1, 2):
        await eventually(lambda tries=tries: web.site.paths().count("/deadly") == tries)
        await asyncio.sleep(0.3)
        for pid in renderers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        renderers.clear()
    with pytest.raises(CrawlFailed, match="a fresh one included"):
        await rendering
    assert b"Hello" in (await web.render("<p>Hello")).body


async def test_it_goes_when_it_is_idle_and_leaves_nothing(own: Web) -> None:
    clock = own.browser._clock
    assert isinstance(clock, Clock)
    assert (own.browser.sandboxed, own.browser.version) == (None, None)
    await own.render("<p>Hello")
    assert own.browser.sandboxed is not None
    assert own.browser._process
    footprint = await own.browser._process.footprint()
    assert footprint
    assert footprint.memory_bytes > 50_000_000
    folder = own.browser._process._folder
    before = processes_of(own.pid)
    clock.advance(299)
    assert own.browser.running
    clock.advance(1)
    await eventually(lambda: gone(before))
    await eventually(lambda: not os.path.exists(folder))


async def test_it_is_replaced_after_so_many_pages(own: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.crawling.browser._PAGES_OF_ONE_BROWSER", 2)
    await own.render("<p>Hello")
    assert own.browser._process
    first = own.browser._process
    await own.render("<p>Hello")
    await first.ended()
    await own.render("<p>Hello")
    assert own.browser._process is not first


SERVICE = """
import asyncio, json, sys
from homelab_ai.crawling import processes
from homelab_ai.crawling.browser_process import BrowserProcess

async def main():
    process = await BrowserProcess.start({"sandbox": None})
    said = {"pids": [process.pid, *processes.below(process.pid)], "folder": process._folder, **process.described}
    print(json.dumps(said), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await process.stop()

asyncio.run(main())
"""


def test_it_does_not_outlive_the_service() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout
        said = json.loads(service.stdout.readline())
        assert len(said["pids"]) > 3
        service.kill()
    wait_for(lambda: not any(map(psutil.pid_exists, said["pids"])))
    wait_for(lambda: not os.path.exists(said["folder"]))


ANYBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""In a user namespace, as somebody who is not root there."""


def described_under(*command: str) -> dict[str, Any]:
    """What the browser says of itself when it is started so."""
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    done = subprocess.run(
        [*command, sys.executable, "-c", SERVICE], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    described: dict[str, Any] = json.loads(done.stdout)
    return described


def test_it_is_in_its_sandbox_where_the_machine_allows_it() -> None:
    if subprocess.run([*ANYBODY, *ANYBODY[:2], "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces within user namespaces are not allowed here")
    assert described_under(*ANYBODY)["sandboxed"] is True


def test_it_does_without_where_the_machine_does_not_allow_it() -> None:
    # One namespace may be made, for this user; the sandbox would need another one.
    limited = 'echo 1 > /proc/sys/user/max_user_namespaces && exec "$@"'
    outer = ("unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh")
    assert described_under(*outer, *ANYBODY)["sandboxed"] is False
