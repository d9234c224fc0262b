"""The overview, against a real service: what it shows is what there is."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import Browser, expect

from homelab_ai.models.residency import ModelState
from support.server import Server
from support.tab import Look, Tab

pytestmark = pytest.mark.timeout(180)

SENTENCES = ["The cat sleeps", "The kettle is on", "Somebody rang the bell"]


def test_memory_is_a_picture_in_which_each_model_is_as_wide_as_it_is_large(tab: Tab, client: httpx.Client) -> None:
    client.post("/api/models/minilm/unload")
    tab.open()
    expect(tab.page.get_by_text("Nothing is loaded.").filter(visible=True)).to_be_visible()
    client.post("/api/models/minilm/load")
    block = tab.page.locator(".block", has_text="minilm")
    expect(block).to_be_visible()
    memory = client.get("/api/status").json()["memory"]
    taken = client.get("/api/models/minilm").json()["memory_bytes"]
    expect(tab.page.locator(".memory .legend").first).to_contain_text("minilm")
    share = block.evaluate("element => element.getBoundingClientRect().width / element.parentElement.clientWidth")
    assert share == pytest.approx(taken / memory["budget_bytes"], abs=0.02)
    tab.page.locator(".legend").get_by_role("link", name="minilm").click()
    expect(tab.model("minilm").get_by_role("button", expanded=True)).to_be_focused()


def test_a_model_that_nobody_may_use_is_not_shown_as_one_that_only_sleeps(tab: Tab) -> None:
    tab.open()
    states = tab.page.locator(".models-in-short tbody tr").filter(visible=True)
    expect(states.filter(has_text="mpnet")).to_contain_text("Disabled")
    expect(states.filter(has_text="blip-base")).to_contain_text("Not loaded")


def test_requests_errors_and_countdowns_are_shown_as_they_happen(tab: Tab, client: httpx.Client) -> None:
    tab.open()
    tab.wait_until_live()
    row = tab.page.locator(".models-in-short tbody tr", has_text="minilm")
    assert client.post("/api/embed", json={"texts": SENTENCES}).status_code == 200
    expect(row.locator(".p95")).to_have_text(re.compile(r"^\d[\d.]* m?s$"))
    expect(row.locator(".unloads")).to_have_text(re.compile(r"^(2\d:\d\d|30:00)$"))
    requests = tab.page.locator(".chart", has_text="Requests")
    expect(requests.locator("strong")).not_to_have_text("0")
    expect(requests.get_by_role("img")).to_have_attribute("aria-label", re.compile("Requests of the last ten minutes"))
    expect(requests.locator(".chart-bars")).to_have_attribute("d", re.compile("^M"))
    plot = requests.locator("svg")
    plot.hover(position={"x": (plot.bounding_box() or {"width": 0})["width"] - 2, "y": 20})
    expect(requests).to_contain_text(re.compile(r"\d+ requests? at \d\d:\d\d"))

    refused = client.post("/api/embed", json={"texts": SENTENCES, "model": "nobody"})
    entry = tab.page.locator(".errors li", has_text=refused.headers["X-Request-ID"])
    expect(entry).to_contain_text("MODEL_NOT_FOUND")
    expect(entry).to_contain_text("/api/embed")
    told = datetime.fromisoformat(client.get("/api/status").json()["errors"][0]["time"])
    expect(entry.locator("time")).to_contain_text(told.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M:%S"))
    tab.assert_accessible()


def test_the_hardware_is_what_the_service_found(tab: Tab, client: httpx.Client) -> None:
    tab.open()
    status = client.get("/api/status").json()
    facts = tab.page.locator("section", has=tab.page.get_by_role("heading", name="Hardware"))
    expect(facts).to_contain_text(status["device"]["cpu"])
    expect(facts).to_contain_text(status["version"])
    for feature in status["device"]["cpu_features"]:
        expect(facts.get_by_text(feature, exact=True)).to_be_visible()


def test_it_says_why_the_service_is_not_ready(browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path) as server, Tab(browser, server.url) as tab:
        tab.open()
        badge = tab.page.locator(".standing .badge")
        expect(badge).to_have_text("Ready")
        config = tmp_path / "config.yaml"
        config.write_text("resources: {max_memory_gb: nonsense}\n")
        expect(tab.page.get_by_text("The configuration file cannot be used as it is now")).to_be_visible(timeout=20_000)
        state = next((tmp_path / "data").glob("*.db*"))
        state.rename(state.with_name("elsewhere"))
        expect(badge).to_have_text("Not ready")
        with server.client() as client:
            reason = client.get("/ready").json()["error"]["message"]
        expect(tab.page.locator(".notice.bad")).to_have_text(reason)
        tab.assert_accessible()
        state.with_name("elsewhere").rename(state)
        expect(badge).to_have_text("Ready")


def told_instead(tab: Tab, **events: dict[str, Any]) -> None:
    """Have the page read these events, once, in the place of the service's own."""
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events.items())
    tab.page.route("**/api/stream", lambda route: route.fulfill(content_type="text/event-stream", body=body))


def test_a_gpu_has_a_picture_of_its_own(tab: Tab, client: httpx.Client) -> None:
    gib = 2**30
    status = client.get("/api/status").json()
    card = {"gpu": "NVIDIA GeForce RTX 3060", "gpus": 1, "gpu_memory_bytes": 12 * gib, "gpu_memory_used_bytes": 3 * gib}
    status["device"] |= card
    status["memory"] |= {"gpu_used_bytes": 2 * gib, "gpu_budget_bytes": 8 * gib}
    minilm = next(model for model in status["models"] if model["id"] == "minilm")
    minilm |= {"state": "ready", "gpu_memory_bytes": 2 * gib}
    told_instead(tab, status=status)
    tab.open()
    picture = tab.page.locator(".memory", has=tab.page.get_by_role("heading", name="GPU memory"))
    expect(picture).to_contain_text("2.0 GB of 8.0 GB, 6.0 GB free")
    share = picture.locator(".block").evaluate(
        "each => each.getBoundingClientRect().width / each.parentElement.clientWidth"
    )
    assert share == pytest.approx(0.25, abs=0.02)
    expect(tab.page.get_by_text("NVIDIA GeForce RTX 3060, 3.0 GB of 12 GB taken")).to_be_visible()


def test_each_state_has_its_word(tab: Tab, client: httpx.Client) -> None:
    """Some of them go by more quickly than the page is told."""
    words = {
        "available": "Not loaded",
        "downloading": "Downloading",
        "loading": "Loading",
        "ready": "Ready",
        "draining": "Unloading",
        "failed": "Failed",
    }
    assert set(words) == set(get_args(ModelState))
    status = client.get("/api/status").json()
    status["models"] = [status["models"][0] | {"id": f"model-{state}", "state": state} for state in words]
    told_instead(tab, status=status)
    tab.open()
    for state, word in words.items():
        row = tab.page.get_by_role("row").filter(has=tab.page.get_by_role("link", name=f"model-{state}", exact=True))
        expect(row.locator(".badge")).to_have_text(word)


def test_where_there_is_nothing_yet_it_says_so(tab: Tab, client: httpx.Client) -> None:
    status = client.get("/api/status").json() | {"models": [], "models_loaded": 0, "errors": []}
    status["memory"]["used_bytes"] = status["browser"]["memory_bytes"] = 0
    told_instead(tab, status=status, models={"models": []})
    tab.open()
    for said in ("Nothing is loaded.", "There is no model yet.", "None since the service started."):
        expect(tab.page.get_by_text(said).filter(visible=True)).to_be_visible()
    tab.assert_accessible()
    tab.open("models")
    expect(tab.page.get_by_text("There is no model yet.")).to_be_visible()
    tab.assert_accessible()


def test_it_is_accessible_and_fits_in_all_colours_and_widths(
    browser: Browser,
    server: Server,
    client: httpx.Client,
    look: Look,
) -> None:
    client.post("/api/embed", json={"texts": SENTENCES})
    with Tab(browser, server.url, **look.options) as tab:
        tab.open()
        expect(tab.page.locator(".block", has_text="minilm")).to_be_visible()
        tab.assert_accessible()
        tab.assert_fits()
