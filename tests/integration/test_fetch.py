"""Pages over plain HTTP, from a site on loopback, through a proxy that sees everything."""

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.crawling import http
from homelab_ai.crawling.pages import Fetched
from homelab_ai.errors import CrawlBlocked, CrawlFailed, RequestTimeout
from support.server import free_port
from support.sites import Proxy, Served, Site, self_signed
from support.sites import TestPassage as Passage

pytestmark = pytest.mark.anyio

SECONDS = 10.0


class Web:
    def __init__(self, site: Site, proxy: Proxy) -> None:
        self.site, self.proxy = site, proxy
        self.passage: Passage = proxy.passage()

    async def fetch(self, path: str = "/", page: Served | None = None, **options: Any) -> Fetched:
        if page:
            self.site.pages[path] = page
        url = path if "://" in path else f"http://site.test{path}"
        given: dict[str, Any] = {"headers": {}, "user_agent": None, "seconds": SECONDS, "max_bytes": 1_000_000}
        return await http.fetch(url, self.passage, **given | options)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Site({}) as site, Proxy(site) as proxy:
        yield Web(site, proxy)


async def test_a_page_as_it_is_sent(web: Web) -> None:
    page = Served("<p>Grüße".encode("latin-1"), "text/html; charset=iso-8859-1", 404)
    fetched = await web.fetch("/a", page)
    assert fetched == Fetched("http://site.test/a", 404, "text/html; charset=iso-8859-1", "<p>Grüße".encode("latin-1"))
    assert web.proxy.seen == [("one", "http://site.test/a")]
    asked = web.site.asked[0].headers
    assert asked["user-agent"] == http.USER_AGENT
    assert "proxy-authorization" not in asked
    await web.fetch("/a", user_agent="Homelab/1")
    assert web.site.asked[-1].headers["user-agent"] == "Homelab/1"


async def test_no_proxy_of_the_environment_is_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*" if "no" in name.lower() else f"http://127.0.0.1:{free_port()}")
    assert (await web.fetch("/", Served("<p>Hello"))).body == b"<p>Hello"
    assert len(web.proxy.seen) == 1


async def test_redirects_are_followed_each_through_the_guard(web: Web) -> None:
    web.site.pages["/"] = Served(status=301, headers={"Location": "http://other.test/b", "Set-Cookie": "c=1; Path=/"})
    web.site.pages["/b"] = Served(status=303, headers={"Location": "c"})
    web.site.pages["/c"] = Served("<p>There")
    fetched = await web.fetch("/")
    assert (fetched.url, fetched.body) == ("http://other.test/c", b"<p>There")
    assert [target for _, target in web.proxy.seen] == [
        "http://site.test/",
        "http://other.test/b",
        "http://other.test/c",
    ]
    assert [asked.headers.get("cookie") for asked in web.site.asked] == [None, None, None]


async def test_cookies_last_for_one_fetch(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "/in", "Set-Cookie": "c=1"})
    web.site.pages["/in"] = Served("<p>In")
    await web.fetch("/")
    await web.fetch("/")
    assert [asked.headers.get("cookie") for asked in web.site.asked] == [None, "c=1", None, "c=1"]


async def test_headers_go_to_the_origin_of_the_page_alone(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "/same"})
    web.site.pages["/same"] = Served(status=302, headers={"Location": "http://other.test/cross"})
    web.site.pages["/cross"] = Served("<p>There")
    await web.fetch("/", headers={"Authorization": "Bearer secret", "X-Own": "1", "User-Agent": "Mine"})
    told = {asked.path: asked for asked in web.site.asked}
    assert told["/"].headers["authorization"] == told["/same"].headers["authorization"] == "Bearer secret"
    assert told["/"].headers["user-agent"] == "Mine"
    assert told["/"].host == "site.test"
    assert not {"authorization", "x-own"} & told["/cross"].headers.keys()
    assert told["/cross"].headers["user-agent"] == http.USER_AGENT


async def test_the_guard_is_asked_for_an_ipv6_address_in_brackets_and_without_credentials(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "http://me:word@[2606::1]:8080/a?b#c"})
    with pytest.raises(CrawlFailed):
        await web.fetch("/")
    assert [target for _, target in web.proxy.seen] == ["http://site.test/", "http://[2606::1]:8080/a?b"]


async def test_chunks_of_a_byte_do_not_keep_everybody_else_waiting(web: Web) -> None:
    chunks = Served(b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n", headers={"Transfer-Encoding": "chunked"}, then="hang")
    fetching = asyncio.create_task(web.fetch("/", chunks))
    turns = 0
    while not fetching.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await fetching).body == b"a" * 10_000
    assert turns > 10_000


async def test_redirects_without_end(web: Web) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": "/"})
    with pytest.raises(CrawlFailed, match="redirects more than 10 times"):
        await web.fetch("/")
    assert len(web.site.asked) == 11


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://site.test/", "javascript:alert(1)", "http://[::1"])
async def test_a_redirect_to_what_is_no_page(web: Web, location: str) -> None:
    web.site.pages["/"] = Served(status=302, headers={"Location": location})
    with pytest.raises(CrawlFailed):
        await web.fetch("/")
    assert len(web.proxy.seen) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare deflate", "identity"])
async def test_compressed(web: Web, coding: str) -> None:
    text = b"<p>" + b"words and words " * 10_000
    bare = zlib.compressobj(wbits=-15)
    made = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "bare deflate": bare.compress(text) + bare.flush(),
        "identity": text,
    }
    name = coding.removeprefix("bare ")
    fetched = await web.fetch("/", Served(made[coding], headers={"Content-Encoding": name}))
    assert (fetched.body == text, fetched.complete) == (True, True)


async def test_a_bomb_does_not_unfold(web: Web) -> None:
    bomb = Served(gzip.compress(bytes(200_000_000), 1), headers={"Content-Encoding": "gzip"})
    fetched = await web.fetch("/", bomb, max_bytes=50_000)
    assert len(fetched.body) == 50_000
    assert fetched.notes == ("only its first 50000 bytes were read",)
    assert not fetched.complete


async def test_codings_that_were_not_asked_for_and_damage(web: Web) -> None:
    for coding in ("br", "gzip, gzip"):
        with pytest.raises(CrawlFailed, match="Content-Encoding"):
            await web.fetch("/", Served(b"\x00", headers={"Content-Encoding": coding}))
    damaged = gzip.compress(b"<p>Hello")[:12] + b"\xff" * 20
    fetched = await web.fetch("/", Served(damaged, headers={"Content-Encoding": "gzip"}))
    assert not fetched.complete


async def test_what_has_come_by_the_deadline_is_returned(web: Web) -> None:
    fetched = await web.fetch("/", Served("<p>so far", then="drip"), seconds=0.5)
    assert fetched.body.startswith(b"<p>so far")
    assert not fetched.complete
    assert fetched.notes == ("it was not there as a whole within its time",)
    web.site.pages["/loop"] = Served("", content_type=None, then="hang", status=302, headers={"Location": "/loop"})
    with pytest.raises((RequestTimeout, CrawlFailed)):
        await web.fetch("/loop", seconds=0.5)


async def test_a_body_that_breaks_off_is_returned(web: Web) -> None:
    fetched = await web.fetch("/", Served("<p>so far", then="cut"))
    assert fetched.body == b"<p>so far"
    assert fetched.notes == ("its server broke off before it was there as a whole",)


async def test_what_the_guard_refuses(web: Web) -> None:
    web.passage = web.proxy.passage("two", refused=("home.test",))
    for url in ("http://home.test/", "https://home.test/"):
        with pytest.raises(CrawlBlocked, match=r"home\.test is not a public address") as raised:
            await web.fetch(url)
        assert raised.value.details == {"reason": "home.test is not a public address"}
    web.site.pages["/"] = Served(status=302, headers={"Location": "https://home.test/"})
    with pytest.raises(CrawlBlocked):
        await web.fetch("/")


async def test_an_address_with_nobody_behind_it(web: Web) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(CrawlFailed, match="not found"):
            await web.fetch(f"{scheme}://nowhere.example/")
        with pytest.raises(CrawlFailed, match="refuses connections"):
            await web.fetch(f"{scheme}://127.0.0.1:{free_port()}/")


async def test_a_server_without_a_certificate_to_trust(web: Web, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*self_signed(tmp_path, "site.test"))
    async with Site({"/": Served("<p>Secret")}, context) as site, Proxy(site) as proxy:
        other = Web(site, proxy)
        with pytest.raises(CrawlFailed, match="cannot be trusted: self-signed certificate"):
            await other.fetch("https://site.test/")
        assert site.asked == []


async def test_an_address_that_is_none(web: Web) -> None:
    for url in ("http://", "http://a b/", "gopher://site.test/"):
        with pytest.raises(CrawlFailed):
            await web.fetch(url)
    with pytest.raises(CrawlFailed, match="header"):
        await web.fetch("/", Served("<p>"), headers={"X-Own": "a\r\nb: c"})
