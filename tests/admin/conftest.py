"""A real service with a real model, and a real browser that looks at it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from support import tab as tabs
from support.server import REPOSITORY, Server
from support.tab import LOOKS, Look, Tab

PICTURES = REPOSITORY / "docs/images"


@pytest.fixture(scope="module")  # no longer: while it is open, nothing else of this thread can have an event loop
def browser() -> Iterator[Browser]:
    with tabs.browser() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It needs no key from this machine."""
    with Server(tmp_path_factory.mktemp("admin"), config="resources: {max_memory_gb: 2}\n") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        client.timeout = httpx.Timeout(150)  # a model may be exported for the first time, on a machine that is busy
        yield client


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    with Tab(browser, server.url) as opened:
        yield opened


@pytest.fixture(params=LOOKS, ids=lambda look: look.name)
def look(request: pytest.FixtureRequest) -> Look:
    found: Look = request.param
    return found


@pytest.fixture
def keep_picture() -> Callable[[Page, str], None]:
    """Keep a picture of the page for the documents, where HOMELAB_AI_TEST_PICTURES asks for that."""

    def keep(page: Page, name: str) -> None:
        picture = page.screenshot(animations="disabled")
        assert len(picture) > 5000, "there is something on it"
        if os.environ.get("HOMELAB_AI_TEST_PICTURES"):
            Path(PICTURES / f"admin-{name}.png").write_bytes(picture)

    return keep
