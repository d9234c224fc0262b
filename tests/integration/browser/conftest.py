"""A browser for all tests of a module, and one for each test that does something to it."""

from collections.abc import AsyncIterator

import pytest

from homelab_ai.crawling.browser import Browser
from homelab_ai.settings import CrawlSettings
from support.clock import Clock
from support.sites import Proxy, Site
from support.web import Web


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all, because they share a browser."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Browser]:
    browser = Browser(CrawlSettings(), Clock())
    yield browser
    await browser.close()


@pytest.fixture
async def web(shared: Browser) -> AsyncIterator[Web]:
    async with Site({}) as site, Proxy(site) as proxy:
        yield Web(site, proxy, shared)


@pytest.fixture
async def own() -> AsyncIterator[Web]:
    """With a browser of its own."""
    async with Site({}) as site, Proxy(site) as proxy:
        browser = Browser(CrawlSettings(), Clock())
        yield Web(site, proxy, browser)
        await browser.close()
