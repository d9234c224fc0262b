"""A web of one site, a real browser, and a proxy between them that sees everything."""

from typing import Any

from homelab_ai.crawling.browser import Browser, Wishes
from homelab_ai.crawling.pages import Fetched
from support.sites import Proxy, Served, Site
from support.sites import TestPassage as Passage

SECONDS = 20.0
"""More than any page here needs; those that never end are given less."""


class Web:
    """The site, the proxy and the browser of one test."""

    def __init__(self, site: Site, proxy: Proxy, browser: Browser) -> None:
        self.site, self.proxy, self.browser = site, proxy, browser
        self.passage: Passage = proxy.passage()

    @property
    def pid(self) -> int:
        """Of the process above all those of the browser."""
        assert self.browser._process
        return self.browser._process.pid

    async def render(self, page: Served | str | None = None, path: str = "/", **wishes: Any) -> Fetched:
        if page is not None:
            self.site.pages[path] = page if isinstance(page, Served) else Served(page)
        wished = Wishes(**({"seconds": SECONDS, "max_bytes": 1_000_000} | wishes))
        url = path if "://" in path else f"http://site.test{path}"
        return await self.browser.render(url, self.passage, wished)


def said_by(fetched: Fetched) -> str:
    """The text in the page's `<pre>`."""
    return fetched.body.decode().partition("<pre>")[2].partition("</pre>")[0]


def script(text: str, before: str = "<pre></pre>") -> str:
    say = "const say = text => document.querySelector('pre').textContent += text + ' ';"
    return f"<!doctype html><title>A page</title>{before}<script>{say}\n{text}</script>"
