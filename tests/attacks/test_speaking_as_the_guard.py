"""Who it is that speaks: a site is not taken for the guard, over TLS neither, and the guard is not taken for a site."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_ai.crawling import http
from homelab_ai.crawling.egress.messages import BLOCKED, FAILED
from homelab_ai.errors import CrawlFailed
from support.browsers import NEEDS_CHROMIUM
from support.egress import PUBLIC
from support.sites import Served, Site, self_signed
from support.villain import TEXT, VILLAIN, World, world

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

either_way = pytest.mark.parametrize("browser", [False, True], ids=["fetched", "in a browser"])
IMPOSTOR = {BLOCKED: "its address is private", FAILED: "its name has not been found", "Proxy-Authenticate": "Basic"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that the villain has made himself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), VILLAIN)


@pytest.fixture(scope="module")
async def trusting(certificate: tuple[Path, Path]) -> AsyncIterator[World]:
    """A world with the villain's certificate, which everybody trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "_tls", lambda: ssl.create_default_context(cafile=certificate[0]))
        async with world(["--ignore-certificate-errors"]) as opened, Site(opened.villain.pages, context) as site:
            opened.internet.put(site.port, PUBLIC, 443)
            site.asked = opened.villain.asked
            yield opened


@either_way
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", [200, 403, 502, 503])
async def test_a_site_does_not_speak_as_the_guard(trusting: World, scheme: str, status: int, *, browser: bool) -> None:
    trusting.villain.pages["/"] = Served(f"<!doctype html><body><p>{TEXT}", status=status, headers=IMPOSTOR)
    page = await trusting.crawl(f"{scheme}://{VILLAIN}/", wait_for_js=browser)
    assert (page.status, page.complete, page.blocked) == (status, True, [])
    assert TEXT in page.extracted.text


@either_way
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_site_is_not_shown_the_credentials(trusting: World, scheme: str, *, browser: bool) -> None:
    trusting.villain.pages["/"] = Served(f"<!doctype html><body><p>{TEXT}", status=407, headers=IMPOSTOR)
    trusting.villain.asked.clear()
    refused = (scheme, browser) == ("https", True)  # browsers do not take that from a server
    with pytest.raises(CrawlFailed) if refused else contextlib.nullcontext():
        await trusting.crawl(f"{scheme}://{VILLAIN}/", wait_for_js=browser)
    assert trusting.villain.asked
    assert not [name for asked in trusting.villain.asked for name in asked.headers if name.startswith("proxy-")]


async def test_the_guard_does_not_speak_as_a_site(home: World) -> None:
    with pytest.raises(CrawlFailed, match="the headers are too large"):
        await home.crawl("/ordinary", wait_for_js=False, headers={f"X-{number}": "1" for number in range(300)})
    assert home.villain.asked == []
