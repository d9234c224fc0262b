"""A service where everything can be tried on the admin page, and what a person does there."""

import ast
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Response, expect

from models.shapes import draw, scenes
from support.answering import Handler, answering
from support.images import saved
from support.server import REPOSITORY, Server
from support.tab import Tab

KEY = "the-key-with-which-everything-is-tried"
ONLY_TEXTS = "the-key-of-one-who-may-only-embed-texts"
SHAPES = REPOSITORY / "tests/models/blip-shapes"
CONFIG = """
models:
  text_embedding:
    - {{id: minilm, hf_model: sentence-transformers/all-MiniLM-L6-v2, default: true}}
    - {{id: another, hf_model: sentence-transformers/all-MiniLM-L6-v2}}
    - {{id: put-aside, hf_model: sentence-transformers/all-MiniLM-L6-v2, enabled: false}}
  image_caption:
    - {{id: shapes, hf_model: {shapes}, default: true}}
crawl: {{allow_hosts: [127.0.0.1], allow_ports: [80, {port}]}}
security:
  api_keys:
    - {{name: boss, key_hash: {boss}, scopes: [admin, read, embed, caption, crawl]}}
    - {{name: texts, key_hash: {texts}, scopes: [embed]}}
"""
SENTENCE = "The boiler in the cellar was serviced in March, and the chimney sweep has signed the book."
PAGE = f"""<!doctype html><html lang="en"><head><title>The house book</title></head><body>
<main><h1>The house book</h1><p>{SENTENCE} <a href="https://example.com/sweep">The sweep</a> {SENTENCE}</p>
<h2>Rooms</h2><ul><li>The kitchen</li><li>The hall</li></ul><p>{SENTENCE}</p>
<p>[press](javascript:alert(1)) &lt;img src=x onerror=alert(1)&gt; {SENTENCE}</p></main>
<img src="http://192.168.1.1/router.png"></body></html>"""
PICTURE, BLUE = islice(scenes("on the page"), 2)


class _Site(Handler):
    def do_GET(self) -> None:
        if self.path.endswith(".png"):
            self.answer(saved(draw(PICTURE), "PNG"), "image/png")
        else:
            self.answer(PAGE.encode())


def site() -> contextlib.AbstractContextManager[str]:
    """A web site on this machine, with one page and one picture."""
    return answering(_Site)


@contextlib.contextmanager
def service(folder: Path, site: str) -> Iterator[Server]:
    """A service whose models are loaded, and that reads that site."""
    hashes = {
        name: hashlib.sha256(key.encode()).hexdigest() for name, key in {"boss": KEY, "texts": ONLY_TEXTS}.items()
    }
    config = CONFIG.format(shapes=SHAPES, port=site.rpartition(":")[2], **hashes)
    with Server(folder, environment={}, config=config) as running:
        with running.client(headers={"Authorization": f"Bearer {KEY}"}) as client:
            client.timeout = 150  # seconds: a model may be exported for the first time, on a machine that is busy
            client.post("/api/embed", json={"texts": ["first"]}).raise_for_status()
            client.post("/api/caption", files={"image": saved(draw(BLUE), "PNG")}).raise_for_status()
        yield running


def tool(tab: Tab, name: str) -> Locator:
    """Choose a tool, and return what belongs to it."""
    tab.page.get_by_role("tab", name=name, exact=True).click()
    return tab.page.get_by_role("tabpanel", name=name, exact=True)


def sent(tab: Tab, button: str) -> dict[str, Any]:
    """Press the button that sends, and return what the service answered."""

    def is_answer(response: Response) -> bool:
        return response.request.method == "POST"

    with tab.page.expect_response(is_answer) as answered:
        tab.page.get_by_role("button", name=button, exact=True).click()
    answer: dict[str, Any] = answered.value.json()
    return answer


def copied(tab: Tab, panel: Locator, language: str, words: str) -> str:
    """Choose the language and copy what it shows."""
    panel.get_by_role("tab", name=language, exact=True).click()
    panel.get_by_role("button", name=f"Copy the request {words}").click()
    expect(panel.get_by_role("status").filter(has_text="Copied")).to_have_text(f"Copied the request {words}")
    text: str = tab.page.evaluate("navigator.clipboard.readText()")
    return text


def run_elsewhere(tab: Tab, panel: Locator, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a shell makes of the copied curl line, and Python of the copied program, with the key in the environment."""
    environment = {"PATH": os.environ["PATH"], "HOMELAB_AI_API_KEY": KEY, "no_proxy": "127.0.0.1"}
    line, program = copied(tab, panel, "curl", "as curl"), copied(tab, panel, "Python", "in Python")
    assert KEY not in line + program
    outputs = []
    for command in (["bash", "-c", line], [sys.executable, "-IS", "-c", program]):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        outputs.append(done.stdout)
    return json.loads(outputs[0]), ast.literal_eval(outputs[1])
