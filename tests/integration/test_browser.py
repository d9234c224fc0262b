"""Pages in a real Chromium, from a site on loopback, through a proxy that sees everything."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from homelab_ai.crawling.browser import Browser, Wishes
from homelab_ai.crawling.pages import Fetched
from homelab_ai.errors import CrawlBlocked, CrawlFailed, InvalidRequest, RequestTimeout, UnsupportedMediaType
from homelab_ai.settings import CrawlSettings
from support.browsers import NEEDS_CHROMIUM
from support.clock import Clock
from support.lan import at_home
from support.server import free_port, wait_for
from support.sites import Asked, Proxy, Served, Site
from support.sites import TestPassage as Passage

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

SECONDS = 20.0
"""More than any page here needs; those that never end are given less."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all, because they share a browser."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Browser]:
    browser = Browser(CrawlSettings(), Clock())
    yield browser
    await browser.close()


class Web:
    """The site, the proxy and the browser of one test."""

    def __init__(self, site: Site, proxy: Proxy, browser: Browser) -> None:
        self.site, self.proxy, self.browser = site, proxy, browser
        self.passage: Passage = proxy.passage()

    async def render(self, page: Served | str | None = None, path: str = "/", **wishes: Any) -> Fetched:
        if page is not None:
            self.site.pages[path] = page if isinstance(page, Served) else Served(page)
        wished = Wishes(**({"seconds": SECONDS, "max_bytes": 1_000_000} | wishes))
        url = path if "://" in path else f"http://site.test{path}"
        return await self.browser.render(url, self.passage, wished)


@pytest.fixture
async def web(shared: Browser) -> AsyncIterator[Web]:
    async with Site({}) as site, Proxy(site) as proxy:
        yield Web(site, proxy, shared)


@pytest.fixture
async def own(request: pytest.FixtureRequest) -> AsyncIterator[Web]:
    """With a browser of its own."""
    async with Site({}) as site, Proxy(site) as proxy:
        browser = Browser(CrawlSettings(), Clock())
        yield Web(site, proxy, browser)
        await browser.close()


def said_by(fetched: Fetched) -> str:
    """The text in the page's `<pre>`."""
    return fetched.body.decode().partition("<pre>")[2].partition("</pre>")[0]


def script(text: str, before: str = "<pre></pre>") -> str:
    say = "const say = text => document.querySelector('pre').textContent += text + ' ';"
    return f"<!doctype html><title>A page</title>{before}<script>{say}\n{text}</script>"


def png_size(data: bytes | None) -> tuple[int, int]:
    assert data
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack("!II", data[16:24])
    return width, height


def processes_of(browser: Browser) -> list[psutil.Process]:
    assert browser._process
    above = psutil.Process(browser._process.pid)
    return [above, *above.children(recursive=True)]


def command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):  # it is about to go
        return " ".join(process.cmdline())
    return ""


def chromium_of(browser: Browser) -> psutil.Process:
    """Chromium's own first process: the one that the driver has started."""
    return next(process for process in processes_of(browser) if "--remote-debugging-pipe" in command_line(process))


def driver_of(browser: Browser) -> psutil.Process:
    return next(process for process in processes_of(browser) if "run-driver" in command_line(process))


def gone(processes: list[psutil.Process]) -> bool:
    return not [process for process in processes if process.is_running()]


def zombies() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def eventually(condition: Any, seconds: float = 10) -> None:
    await asyncio.to_thread(wait_for, condition, seconds)


async def test_a_page_is_what_its_scripts_have_made_of_it(web: Web) -> None:
    web.site.pages["/data"] = Served(json.dumps({"said": "by another request"}), "application/json")
    fetched = await web.render(
        script("fetch('/data').then(r => r.json()).then(d => { say(d.said); document.title = 'Known <at> last'; })")
    )
    assert said_by(fetched) == "by another request "
    assert fetched.title == "Known <at> last"
    assert (fetched.status, fetched.content_type) == (200, "text/html; charset=utf-8")
    assert (fetched.url, fetched.complete, fetched.notes) == ("http://site.test/", True, ())
    assert fetched.screenshot is None
    assert fetched.body.startswith(b"<!DOCTYPE html><html>")


async def test_a_page_that_draws_itself_late_is_waited_for(web: Web) -> None:
    fetched = await web.render(
        script("setTimeout(() => { document.body.append(document.createElement('article')); }, 1200)"),
        wait_for_selector="body > article",
    )
    assert b"<article></article>" in fetched.body
    assert fetched.complete


async def test_what_is_no_selector_is_said_to_be_none(web: Web) -> None:
    with pytest.raises(InvalidRequest, match="wait_for_selector: is no CSS selector"):
        await web.render("<p>Hello", wait_for_selector="p[[")


async def test_a_selector_that_matches_nothing_has_the_page_as_it_is(web: Web) -> None:
    fetched = await web.render("<p>Hello", wait_for_selector="article", seconds=1.5)
    assert b"Hello" in fetched.body
    assert not fetched.complete
    assert "nothing on it has matched wait_for_selector" in fetched.notes


async def test_status_and_address_are_those_of_where_it_has_ended(web: Web) -> None:
    web.site.pages["/old"] = Served(status=302, headers={"Location": "http://other.test/there"})
    web.site.pages["/there"] = Served(script("setTimeout(() => location.replace('/last'), 20)"))
    web.site.pages["/last"] = Served("<title>Last</title>not found", status=404)
    fetched = await web.render(path="/old")
    assert (fetched.url, fetched.status, fetched.title) == ("http://other.test/last", 404, "Last")


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (script("say('begun'); while (true) {}"), "script"),
        (script("say('begun'); while (true) alert('again')"), "alerts"),
        (script("say('begun'); setTimeout(() => { while (true) {} }, 200)"), "late script"),
        (script("say('begun'); location.replace('/?' + Math.random())"), "navigation"),
        (script("say('begun');", "<pre></pre><script src=/hangs></script>"), "loading"),
    ],
    ids=lambda value: value if "<" not in value else "",
)
async def test_a_page_that_never_ends_is_read_as_it_is(web: Web, page: str, fault: str) -> None:
    web.site.pages["/hangs"] = Served("", "text/javascript", then="hang")
    begun = time.monotonic()
    try:
        fetched = await web.render(page, seconds=3)
    except RequestTimeout:
        assert fault == "navigation"  # it is always at the beginning
    else:
        assert not fetched.complete or fault in {"navigation", "late script"}
        assert fetched.title == "A page" or fault == "navigation"
    assert time.monotonic() - begun < 3 + 3
    assert b"Hello" in (await web.render("<p>Hello", path="/next")).body


async def test_a_body_that_never_ends_is_read_as_it_is(web: Web) -> None:
    fetched = await web.render(Served("<title>Slow</title><p>" + "so far " * 500, then="drip"), seconds=2)
    assert b"so far" in fetched.body
    assert (fetched.title, fetched.complete) == ("Slow", False)
    assert fetched.notes == ("the page was not ready within its time",)


async def test_a_server_that_says_nothing_is_not_waited_for(web: Web) -> None:
    web.site.pages["/"] = lambda asked: Served(then="hang", headers={}, content_type=None)
    hanging = socket.socket()
    hanging.bind(("127.0.0.1", 0))
    hanging.listen()
    with hanging, pytest.raises(RequestTimeout):
        await web.render(path=f"http://127.0.0.1:{hanging.getsockname()[1]}/", seconds=1)


async def test_no_more_is_taken_than_may_be(web: Web) -> None:
    page = script("for (let i = 0; i < 20; i++) say('ö'.repeat(1000))")
    fetched = await web.render(page, max_bytes=10_000)
    assert len(fetched.body) == 10_000
    assert not fetched.complete
    assert fetched.notes == ("only its first 10000 bytes were read",)


async def test_a_page_cannot_say_what_is_read_of_it(web: Web) -> None:
    fetched = await web.render(
        "<title>True</title><form name=documentElement></form><img name=title><p>There</p>"
        "<script>Object.defineProperty(Document.prototype, 'title', {get: () => 'False'});"
        "MutationObserver = null; String.prototype.slice = () => 'nothing'</script>"
    )
    assert fetched.title == "True"
    assert b"<p>There</p>" in fetched.body


async def test_a_screenshot_is_a_picture_of_the_page(web: Web) -> None:
    page = "<body style='margin:0;background:#0a0'><div style='height:3000px'>"
    assert png_size((await web.render(page, screenshot=True)).screenshot) == (1280, 800)
    assert png_size((await web.render(page, screenshot="full_page")).screenshot) == (1280, 3000)


async def test_a_screenshot_of_an_endless_page_ends(web: Web) -> None:
    fetched = await web.render("<body style='margin:0'><div style='height:900000px'>", screenshot="full_page")
    assert png_size(fetched.screenshot) == (1280, 16384)
    assert fetched.notes == ("the screenshot ends after 16384 of 900000 pixels",)


async def test_what_is_heavy_is_loaded_for_a_screenshot_only(web: Web) -> None:
    page = "<img src=/i.png><video src=/v.mp4></video><style>@font-face{font-family:f;src:url(/f.woff)}p{font-family:f}"
    page += "</style><p>Text</p><link rel=stylesheet href=/s.css><script src=/s.js></script>"
    await web.render(page)
    assert {"/i.png", "/v.mp4", "/f.woff"}.isdisjoint(web.site.paths())
    assert {"/s.css", "/s.js"} <= set(web.site.paths())
    await web.render(page, screenshot=True)
    assert {"/i.png", "/f.woff"} <= set(web.site.paths())


async def test_nothing_is_left_of_one_page_for_the_next(web: Web) -> None:
    page = script(
        "say(document.cookie + '|' + localStorage.getItem('k') + '|' + history.length);"
        "document.cookie = 'c=1'; localStorage.setItem('k', 1);"
    )
    web.site.pages["/"] = Served(page, headers={"Set-Cookie": "server=1; Max-Age=9999", "Cache-Control": "max-age=999"})
    first, second = await web.render(), await web.render()
    assert said_by(first) == "server=1|null|2 "
    assert said_by(second) == "server=1|null|2 "
    pages = [asked for asked in web.site.asked if asked.path == "/"]
    assert [asked.headers.get("cookie") for asked in pages] == [None, None]


async def test_each_page_goes_out_with_its_own_credentials(web: Web) -> None:
    web.site.pages["/"] = Served("<script src=http://other.test/s.js></script><p>Text")
    passages = [web.proxy.passage(name) for name in ("anna", "bert", "carl")]
    wishes = Wishes(SECONDS, 10_000)
    await asyncio.gather(*(web.browser.render(f"http://{p.username}.test/", p, wishes) for p in passages))
    for passage in passages:
        seen = {target for user, target in web.proxy.seen if user == passage.username}
        assert {f"http://{passage.username}.test/", "http://other.test/s.js"} <= seen
        assert seen <= {
            f"http://{passage.username}.test/",
            "http://other.test/s.js",
            f"http://{passage.username}.test/favicon.ico",
        }


async def test_headers_go_to_the_origin_of_the_page_alone(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "/inside"})
    web.site.pages["/inside"] = Served(
        script("fetch('/same'); fetch('http://other.test/cross', {mode: 'no-cors'}); fetch('/away', {mode: 'no-cors'})")
    )
    web.site.pages["/away"] = Served(status=302, headers={"Location": "http://other.test/redirected"})
    await web.render(path="/", headers={"Authorization": "Bearer secret", "X-Own": "1"})
    told = {asked.path: asked.headers.get("authorization") for asked in web.site.asked}
    assert told["/"] == told["/inside"] == told["/same"] == told["/away"] == "Bearer secret"
    assert "/cross" in told
    assert "/redirected" in told
    assert told["/cross"] is None
    assert told["/redirected"] is None


async def test_a_page_that_is_redirected_away_takes_no_headers_along(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "http://other.test/there"})
    web.site.pages["/there"] = Served("<p>There")
    await web.render(path="/", headers={"X-Own": "secret"})
    told = {asked.path: asked.headers.get("x-own") for asked in web.site.asked}
    assert (told["/"], told["/there"]) == ("secret", None)


async def test_how_it_introduces_itself(web: Web) -> None:
    await web.render("<p>Hello")
    assert "Headless" not in web.site.asked[0].headers["user-agent"]
    assert "Chrome/" in web.site.asked[0].headers["user-agent"]
    await web.render("<p>Hello", user_agent="Homelab/1")
    assert web.site.asked[-1].headers["user-agent"] == "Homelab/1"


async def test_what_the_guard_refuses(web: Web) -> None:
    web.passage = web.proxy.passage("two", refused=("home.test",))
    for path in ("http://home.test/", "https://home.test/"):
        with pytest.raises(CrawlBlocked, match=r"home\.test is not a public address"):
            await web.render(path=path)
    web.passage.blocked.clear()
    with pytest.raises(CrawlBlocked):
        await web.render(script("location = 'http://home.test/'"))
    web.passage.blocked.clear()
    fetched = await web.render(
        script(
            "new WebSocket('ws://home.test/w').onerror = () => say('closed');"
            "fetch('http://home.test/f').catch(() => 0);"
            "new Worker(URL.createObjectURL(new Blob([\"fetch('http://home.test/k')\"])));",
            "<script src=http://home.test/s.js></script><iframe src=http://home.test/i></iframe><pre></pre>",
        )
    )
    assert said_by(fetched) == "closed "
    assert {target for target, _ in web.passage.blocked} == {
        "home.test:80",  # WebSocket
        *(f"http://home.test/{path}" for path in ("s.js", "i", "f", "k")),
    }


async def test_loopback_is_no_way_around_the_proxy(web: Web) -> None:
    target = f"http://localhost:{web.site.port}/"
    web.passage = web.proxy.passage("two", refused=("127.0.0.1", "localhost", "169.254.169.254", "::1"))
    for host in (f"localhost:{web.site.port}", f"127.0.0.1:{web.site.port}", "169.254.169.254"):
        with pytest.raises(CrawlBlocked):
            await web.render(path=f"http://{host}/")
    fetched = await web.render(
        script(f"fetch('{target}', {{mode: 'no-cors'}}).then(() => say('answered'), () => say('failed'))"), path="/page"
    )
    assert said_by(fetched)
    assert web.site.paths()[-1:] != ["/"]


async def test_an_address_with_nobody_behind_it(web: Web) -> None:
    with pytest.raises(CrawlFailed, match="its server was not found"):
        await web.render(path="http://nowhere.example/")
    with pytest.raises(CrawlFailed, match="refuses connections"):
        await web.render(path=f"https://127.0.0.1:{free_port()}/")
    with pytest.raises(CrawlFailed, match="its server was not found"):
        await web.render(path="https://nowhere.example/")
    with pytest.raises(CrawlFailed, match="redirects without end"):
        await web.render(Served(status=302, headers={"Location": "/loop"}), path="/loop")
    with pytest.raises(CrawlFailed, match=r"has sent no page \(status 204\)"):
        await web.render(Served(status=204), path="/nothing")
    fetched = await web.render(Served(status=404), path="/silent")
    assert (fetched.status, fetched.url) == (404, "http://site.test/silent")
    assert fetched.body in {b"", b"<html><head></head><body></body></html>"}  # of Chromium, and of its headless shell


async def test_a_download_is_refused(web: Web) -> None:
    page = Served(b"PK\x03\x04", "application/zip", headers={"Content-Disposition": "attachment"})
    with pytest.raises(UnsupportedMediaType):
        await web.render(page)
    web.site.pages["/file"] = page
    fetched = await web.render(script("say('here'); location = '/file'"), path="/page")
    assert (said_by(fetched), fetched.complete) == ("here ", True)


async def test_dialogs_popups_service_workers_and_permissions(web: Web) -> None:
    web.site.pages["/sw.js"] = Served("self.addEventListener('fetch', e => {})", "text/javascript")
    web.site.pages["/popup"] = Served("<p>Popup")
    web.site.pages["/page"] = Served(
        script(
            "alert('stop'); say(confirm('sure?')); say(prompt('name?')); open('/popup');"
            "onbeforeunload = () => 'stay';"
            "navigator.permissions.query({name: 'geolocation'}).then(p => say(p.state));"
            "Promise.resolve(navigator.serviceWorker?.register('/sw.js')).then(r => say(r ? 'sw' : 'no-sw'),"
            " e => say('no-sw'));"
        )
    )
    said = said_by(await web.render(path=f"http://localhost:{web.site.port}/page")).split()
    assert said[:2] == ["false", "null"]
    assert sorted(said[2:]) in (["denied", "no-sw"], ["no-sw", "prompt"], ["no-sw"], ["denied"])
    assert "/sw.js" not in web.site.paths()


async def test_what_a_page_says_in_its_console_is_nobodys_business(web: Web) -> None:
    fetched = await web.render(
        script(
            "const frame = document.createElement('iframe'); document.body.append(frame);"
            "for (const each of [window, frame.contentWindow])"
            "  for (const name of ['log', 'error', 'dir']) say(String(each.console[name]).includes('native'));"
        )
    )
    assert said_by(fetched) == "false " * 6


async def test_webrtc_is_no_way_around_the_proxy(web: Web) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stun, socket.socket() as turn:
        for listener in (stun, turn):
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(0.5)
        turn.listen()
        web.passage = web.proxy.passage("two", refused=("127.0.0.1",))
        udp, tcp = stun.getsockname()[1], turn.getsockname()[1]
        fetched = await web.render(
            script(
                f"""const pc = new RTCPeerConnection({{iceServers: [{{urls: 'stun:127.0.0.1:{udp}'}},
                {{urls: 'turn:127.0.0.1:{tcp}?transport=tcp', username: 'u', credential: 'p'}}]}});
                pc.createDataChannel('c'); pc.onicecandidate = e => say(e.candidate ? e.candidate.candidate : 'end');
                pc.createOffer().then(o => pc.setLocalDescription(o));
                setTimeout(() => document.body.append(document.createElement('article')), 700)"""
            ),
            wait_for_selector="article",
        )
        assert said_by(fetched) in {"", "end "}  # no address of this machine is given away
        with pytest.raises(TimeoutError):
            stun.recv(100)
        with pytest.raises(TimeoutError):
            turn.accept()
    assert [target for target, _ in web.passage.blocked] == [f"127.0.0.1:{tcp}"]


async def test_nothing_but_the_page_goes_out(own: Web) -> None:
    await own.render("<p>Hello")
    await asyncio.sleep(1)
    allowed = {"http://site.test/", "http://site.test/favicon.ico"}
    assert {target for _, target in own.proxy.seen} <= allowed
    connections = [
        connection.raddr
        for process in processes_of(own.browser)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_ESTABLISHED
    ]
    assert {(address[0], address[1]) for address in connections} <= {("127.0.0.1", own.proxy.port)}


async def test_what_the_driver_switches_off_stays_off(web: Web) -> None:
    await web.render("<p>Hello")
    given = [word for word in chromium_of(web.browser).cmdline() if word.startswith("--disable-features=")]
    drivers, ours = (set(word.partition("=")[2].split(",")) for word in given)
    assert drivers < ours, "Chromium goes by the last of the two"


async def test_a_request_that_is_given_up_leaves_no_page(web: Web) -> None:
    await web.render("<p>Hello")
    before = len(processes_of(web.browser))
    web.site.pages["/hangs"] = Served("<p>", then="hang")
    rendering = asyncio.create_task(web.render(path="/hangs"))
    await eventually(lambda: "/hangs" in web.site.paths())
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    await eventually(lambda: len(processes_of(web.browser)) <= before)
    assert web.browser.at_work == 0


@pytest.mark.parametrize("victim", ["chromium", "driver", "process"])
async def test_a_killed_browser_is_replaced_and_its_pages_tried_again(own: Web, victim: str) -> None:
    release = asyncio.Event()

    def hold(asked: Asked) -> Served:
        return Served("<p>Hello") if release.is_set() else Served("<p>", then="hang")

    own.site.pages["/held"] = hold
    tasks = [asyncio.create_task(own.render(path="/held")) for _ in range(6)]
    await eventually(lambda: own.site.paths().count("/held") == 4)
    before = processes_of(own.browser)
    killed = {"chromium": chromium_of(own.browser), "driver": driver_of(own.browser), "process": before[0]}[victim]
    release.set()
    killed.send_signal(signal.SIGKILL)
    fetched = await asyncio.gather(*tasks)
    assert all(b"Hello" in page.body for page in fetched)
    await eventually(lambda: gone(before))
    await eventually(lambda: not zombies())


@pytest.mark.parametrize("victim", ["chromium", "driver"])
async def test_a_browser_that_was_killed_while_it_was_idle_is_replaced(own: Web, victim: str) -> None:
    await own.render("<p>Hello")
    before = processes_of(own.browser)
    {"chromium": chromium_of, "driver": driver_of}[victim](own.browser).send_signal(signal.SIGKILL)
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
        found = [process for process in processes_of(web.browser) if "--type=renderer" in command_line(process)]
        renderers.update(process.pid for process in found)
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
    before = processes_of(own.browser)
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
