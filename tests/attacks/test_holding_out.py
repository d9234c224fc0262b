"""The villain's pages want to hold the service up or to take it down. Each ends in time, and the next page is read."""

import asyncio
import gzip
import time
from dataclasses import dataclass

import pytest

from homelab_ai.crawling.service import Page
from homelab_ai.errors import CrawlFailed, RequestTimeout, ServiceError, UnsupportedMediaType
from support.browsers import NEEDS_CHROMIUM
from support.egress import Handler
from support.sites import END, Served
from support.villain import TEXT, World

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

SECONDS = 2.0
"""For a page that never ends; one that comes to an end by itself has as long as any page."""
GRACE_SECONDS = 6.0
"""Within which it is given up after that: the browser's own grace, reading, and a machine that is busy."""
LINKS = "".join(f"<a href=/{number}>Page {number}</a>, {'<p>' * (number % 100 == 0)}" for number in range(10_000))
BOMB = gzip.compress(b"<p>And so on, without end.</p>" * 4_000_000, 1)


@dataclass(frozen=True)
class Whole:
    """The page is read as it is, and has this text."""

    text: str = "Before"


@dataclass(frozen=True)
class Part:
    """What there is of the page is read; of one that keeps the browser busy there may be nothing."""

    nothing: tuple[type[ServiceError], ...] = (RequestTimeout,)


Outcome = Whole | Part | type[ServiceError]


def saying(head: bytes, again: bytes = b"", pause: float = 0) -> Handler:
    """A server that says this, and then the same thing for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(END)
        writer.write(head)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)
        await reader.read()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked" + END

SERVERS: dict[str, tuple[Handler, Outcome]] = {
    "endless body": (saying(OK + END, b"<p>And so on, without end.</p>" * 1000), Part((CrawlFailed, RequestTimeout))),
    "slow body": (saying(OK + END + b"<p>Before</p>", b" ", 0.05), Part()),
    "slow head": (saying(OK, b"X-Slow: 1\r\n", 0.05), RequestTimeout),
    "silence": (saying(b""), RequestTimeout),
    "endless head": (saying(OK, b"X-Long: " + b"a" * 1000 + b"\r\n"), CrawlFailed),
    "endless answers before the answer": (
        saying(b"HTTP/1.1 103 Early Hints" + END, b"HTTP/1.1 100 C" + END),
        CrawlFailed,
    ),
    "endless chunks of a byte": (saying(CHUNKED, b"1\r\na\r\n" * 1000), Part()),
    "endless size of a chunk": (saying(CHUNKED + b"1;", b"a" * 1000), Part((CrawlFailed, RequestTimeout))),
    "less than was announced": (saying(OK + b"Content-Length: 1000" + END + b"<p>Before</p>"), Part()),
    "no HTTP": (saying(b"SSH-2.0-OpenSSH" + END), CrawlFailed),
}

ANSWERS: dict[str, tuple[Served, Outcome]] = {
    "bomb": (Served(BOMB, headers={"Content-Encoding": "gzip"}), Part((CrawlFailed, RequestTimeout))),
    "bomb in a bomb": (
        Served(gzip.compress(BOMB), headers={"Content-Encoding": "gzip, gzip"}),
        Part((CrawlFailed, RequestTimeout)),
    ),
    "redirect to itself": (Served(status=302, headers={"Location": "/"}), CrawlFailed),
    "redirect to a file": (Served(status=302, headers={"Location": "file:///etc/passwd"}), CrawlFailed),
    "redirect to the browser's own": (Served(status=302, headers={"Location": "chrome://version"}), CrawlFailed),
    "10,000 links": (Served(f"<!doctype html><body><main>{LINKS}</main>"), Whole("Page 9999")),
    "nested 10,000 times": (Served("<body><p>Before</p>" + "<div>" * 10_000), Whole()),
    "question for a password": (
        Served("<p>Before", status=401, headers={"WWW-Authenticate": 'Basic realm="Router"'}),
        Whole(),
    ),
    "download": (
        Served("PK", "application/zip", headers={"Content-Disposition": "attachment"}),
        UnsupportedMediaType,
    ),
    "charset that there is not": (Served("<p>Before äöü", "text/html; charset=klingon"), Whole()),
    "charset that it is not": (Served("<p>Before äöü, and more", "text/html; charset=utf-16"), Whole("")),
    "charset of seven bits": (Served("<p>Before +ADw-script+AD4-", "text/html; charset=utf-7"), Whole()),
    "two charsets": (
        Served("<meta charset=shift_jis><p>Before äöü", "text/html; charset=utf-8; charset=utf-16"),
        Whole(),
    ),
    "bytes of no charset": (Served(b"<p>Before \xff\xfe\x00\x81\xed\xa0\x80", "text/html; charset=utf-8"), Whole()),
}


def endless(script: str) -> str:
    return f"setInterval(() => {{ for (let i = 0; i < 100; i++) {{ {script} }} }}, 0)"


SCRIPTS: dict[str, tuple[str, Outcome]] = {
    "loop": ("while (true) {}", Part()),
    "alerts": ("while (true) { alert(1); confirm(1); prompt(1); print() }", Part()),
    "alerts of a frame": (
        (
            "f = document.createElement('iframe'); f.srcdoc = '<script>while (true) alert(1)</' + 'script>';"
            "document.body.append(f)"
        ),
        Part(),
    ),
    "console": ("while (true) console.log('x'.repeat(1e5))", Part()),
    "errors": (endless("Promise.reject(new Error('x'.repeat(1e4)))"), Part()),
    "memory of scripts": ("a = []; while (true) a.push(new Array(1e6).fill(1.5))", Part((CrawlFailed, RequestTimeout))),
    "memory of buffers": ("a = []; while (true) a.push(new Uint8Array(5e7).fill(1))", Whole()),
    "memory of the page": (
        "while (true) document.body.append(document.createElement('p'))",
        Part((CrawlFailed, RequestTimeout)),
    ),
    "frames": (endless("document.body.append(document.createElement('iframe'))"), Part()),
    "workers": ("for (let i = 0; i < 200; i++) new Worker(URL.createObjectURL(new Blob(['while (true);'])))", Part()),
    "requests": (endless("fetch('/?' + Math.random()).catch(() => 0)"), Part()),
    "sockets": ("for (let i = 0; i < 500; i++) new WebSocket('ws://villain.test/' + i)", Whole()),
    "popups": (
        (
            "for (let i = 0; i < 50; i++) { a = document.createElement('a'); a.href = '/ordinary'; a.target = '_blank';"
            "document.body.append(a); a.click() }"
        ),
        Part(),
    ),
    "navigation": (endless("location = '/?' + Math.random()"), Part()),
    "history": ("while (true) history.pushState(0, '', '/?' + Math.random())", Part()),
    "goodbye": ("onbeforeunload = onpagehide = onunload = () => { while (true); }", Whole()),
    "never loaded": ("document.write('<img src=/hangs><script src=/hangs></' + 'script>')", Part()),
}


async def outlasted(home: World, expected: Outcome, url: str, *, browser: bool) -> None:
    """See that the page comes to its end in time, as it should, and that the next one is read."""
    endless = isinstance(expected, Part) or expected is RequestTimeout
    seconds = SECONDS if endless else home.settings.crawl.timeout_seconds
    begun = time.monotonic()
    outcome: Page | ServiceError
    try:
        outcome = await home.crawl(url, wait_for_js=browser, timeout_seconds=seconds, formats=("html", "links"))
    except ServiceError as error:
        outcome = error
    assert _is_expected(expected, outcome), outcome
    assert time.monotonic() - begun < seconds + GRACE_SECONDS
    assert TEXT in (await home.crawl("/ordinary", wait_for_js=browser)).extracted.text
    assert home.browser.at_work == 0
    assert home.guard._passages == {}
    assert home.secret.arrived == 0


def _is_expected(expected: Outcome, outcome: Page | ServiceError) -> bool:
    match expected, outcome:
        case Whole(text), Page():
            return outcome.complete and text in outcome.extracted.text
        case Part(), Page():
            return not outcome.complete and bool(outcome.notes)
        case Part(nothing), _:
            return isinstance(outcome, nothing)
    return isinstance(expected, type) and isinstance(outcome, expected)


either_way = pytest.mark.parametrize("browser", [False, True], ids=["fetched", "in a browser"])


@either_way
@pytest.mark.parametrize(("server", "outcome"), SERVERS.values(), ids=SERVERS)
async def test_servers(home: World, server: Handler, outcome: Outcome, *, browser: bool) -> None:
    home.internet.names["raw.test"] = [["93.184.216.40"]]
    await home.internet.serve(server, "93.184.216.40")
    await outlasted(home, outcome, "http://raw.test/", browser=browser)


@either_way
@pytest.mark.parametrize(("answer", "outcome"), ANSWERS.values(), ids=ANSWERS)
async def test_answers(home: World, answer: Served, outcome: Outcome, *, browser: bool) -> None:
    home.villain.pages["/"] = answer
    await outlasted(home, outcome, "/", browser=browser)


@pytest.mark.parametrize(("script", "outcome"), SCRIPTS.values(), ids=SCRIPTS)
async def test_scripts(home: World, script: str, outcome: Outcome) -> None:
    home.villain.pages |= {
        "/": Served(f"<!doctype html><body><p>Before</p><script>{script}</script>"),
        "/hangs": Served(then="hang"),
    }
    await outlasted(home, outcome, "/", browser=True)


@either_way
async def test_clients_that_go_away(home: World, *, browser: bool) -> None:
    home.villain.pages["/"] = Served("<p>Before", then="hang")
    crawling = [asyncio.create_task(home.crawl("/", wait_for_js=browser)) for _ in range(8)]
    while len(home.villain.asked) < 4:
        await asyncio.sleep(0.01)
    for each in crawling:
        each.cancel()
    await asyncio.wait(crawling)
    assert all(each.cancelled() for each in crawling)
    await outlasted(home, Whole(TEXT), "/ordinary", browser=browser)
