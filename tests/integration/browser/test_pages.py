"""What becomes of a page in a real Chromium: text and pictures, what is waited for, and what is an error."""

import json
import socket
import struct
import time

import pytest

from homelab_ai.errors import CrawlFailed, InvalidRequest, RequestTimeout, UnsupportedMediaType
from support.browsers import NEEDS_CHROMIUM
from support.server import free_port
from support.sites import Served
from support.web import Web, said_by, script

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]


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


def png_size(data: bytes | None) -> tuple[int, int]:
    assert data
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack("!II", data[16:24])
    return width, height


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
