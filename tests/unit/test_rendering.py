"""Which pages are given to the browser, by what their servers have sent."""

import time

import pytest

from homelab_ai.crawling.pages import Fetched
from homelab_ai.crawling.rendering import needs_browser

TEXT = "<p>" + "Some words that say what this page is about. " * 20 + "</p>"
SCRIPTS = "<script src=/app.js></script>"


def needs(html: str, content_type: str = "text/html; charset=utf-8") -> bool:
    return needs_browser(Fetched("http://site.test/", 200, content_type, html.encode()))


@pytest.mark.parametrize(
    "html",
    [
        f"<!doctype html><title>App</title><div id=root></div>{SCRIPTS}",
        f'<title>App</title><div class="a" id="app" data-x></div><footer>{"word " * 40}</footer>{SCRIPTS}',
        f'<div id="__next"></div><nav>{"Home " * 60}</nav><script>start()</script>',
        f"<body><my-app></my-app>{SCRIPTS}",
        f"<body><app-root>Loading...</app-root>{SCRIPTS}",
        f"<noscript>You need to enable JavaScript to run this app.</noscript><header>{'Menu ' * 50}</header>{SCRIPTS}",
        f"<div id=root><!-- {'not seen ' * 200} --></div>{SCRIPTS}",
        f"<div id=root></div><style>{'p {} ' * 200}</style><script>{'var x; ' * 500}</script>",
        '<meta http-equiv="refresh" content="0; url=/there">' + TEXT,
        "<META content='3;URL=/there' HTTP-EQUIV=Refresh>",
        f"<p>Please wait while your browser is being checked.</p>{SCRIPTS}",
    ],
)
def test_needs_one(html: str) -> None:
    assert needs(html)


@pytest.mark.parametrize(
    "html",
    [
        TEXT,
        TEXT + SCRIPTS,
        f"<div id=root>{TEXT}</div>{SCRIPTS}",
        f"<noscript>Comments need JavaScript.</noscript>{TEXT}{SCRIPTS}",
        "<p>Short and still.</p>",
        '<p>Short.</p><script type="application/ld+json">{"@type": "Thing"}</script>',
        f"<p>{'A short page that counts its visitors, and nothing more. ' * 6}</p>{SCRIPTS}",
        '<meta http-equiv="refresh" content="600; url=/">' + TEXT,
        '<meta http-equiv="refresh" content="300">' + TEXT,
        "",
    ],
)
def test_needs_none(html: str) -> None:
    assert not needs(html)


def test_what_is_no_html_needs_none() -> None:
    page = f"<!doctype html><div id=root></div>{SCRIPTS}"
    assert not needs(page, "application/json")
    assert not needs("#root {}", "text/plain")
    assert needs(page, "")
    assert needs(page, "text/plain")
    assert needs(page, "TEXT/HTML")


@pytest.mark.parametrize(
    "bait", ["<", "<!--", "<script", "<noscript>", "<div id=", "<meta content=1", "<div id=root>", "<a-b "]
)
def test_no_page_makes_it_think_for_long(bait: str) -> None:
    begun = time.process_time()
    needs(bait * (2_000_000 // len(bait)))
    assert time.process_time() - begun < 10  # what goes over the text again and again takes hours


@pytest.mark.parametrize("end", [" " * 400_000, "1" * 400_000, " content=111111111" * 20_000, "<meta " * 60_000])
def test_no_page_keeps_it_busy(end: str) -> None:
    """The time limit of a test ends one that goes over the same text again and again: it would take hours."""
    needs(f"<script></script><meta http-equiv=refresh content={end}")
