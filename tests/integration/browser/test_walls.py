"""What a real Chromium keeps apart: a page from the next one, from this machine, and from any way out but the proxy."""

import asyncio
import socket

import psutil
import pytest

from homelab_ai.crawling.browser import Wishes
from homelab_ai.errors import CrawlBlocked
from support.browsers import NEEDS_CHROMIUM, parts_of, processes_of
from support.sites import Served
from support.web import SECONDS, Web, said_by, script

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]


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
        for process in processes_of(own.pid)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_ESTABLISHED
    ]
    assert {(address[0], address[1]) for address in connections} <= {("127.0.0.1", own.proxy.port)}


async def test_what_the_driver_switches_off_stays_off(web: Web) -> None:
    await web.render("<p>Hello")
    (chromium,) = parts_of(web.pid)["main"]
    given = [word for word in chromium.cmdline() if word.startswith("--disable-features=")]
    drivers, ours = (set(word.partition("=")[2].split(",")) for word in given)
    assert drivers < ours, "Chromium goes by the last of the two"
