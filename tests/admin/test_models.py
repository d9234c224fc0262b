"""The view of models, against a real service and a hub on loopback: every action, and what goes wrong with them."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from support.hub import MB, Fault, Hub
from support.server import REPOSITORY, Server
from support.tab import PHONE, Look, Tab

pytestmark = pytest.mark.timeout(180)

SHAPES = REPOSITORY / "tests/models/blip-shapes"
CHANGES_OF_THREE_SECONDS = """
async () => {
  let changes = 0;
  const observer = new MutationObserver((records) => { changes += records.length; });
  const all = {subtree: true, childList: true, attributes: true, characterData: true};
  observer.observe(document.querySelector("main"), all);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  observer.disconnect();
  return changes;
}
"""
LONG = 60_000  # milliseconds: exporting a model on a machine that is at something else, too


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.push("home/shapes", {path.name: path.read_bytes() for path in SHAPES.iterdir()})
        hub.push("home/no-model", {"config.json": b"{}", "model.safetensors": os.urandom(2 * MB)})
        yield hub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    home = {"HF_HOME": str(folder / "hf_home"), "HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    config = "resources: {max_memory_gb: 2}\n"
    with Server(folder, environment={**hub.environment, **home}, config=config) as running:
        yield running


@pytest.fixture
def page(tab: Tab) -> Page:
    tab.open("models")
    tab.wait_until_live()
    return tab.page


def state(tab: Tab, model_id: str, said: str) -> None:
    expect(tab.model(model_id).locator(".model-state")).to_have_text(said, timeout=LONG)


def act(tab: Tab, model_id: str, action: str) -> None:
    tab.model(model_id).get_by_role("group", name="Actions").get_by_role("button", name=action, exact=True).click()


def opened(tab: Tab, model_id: str) -> None:
    tab.model(model_id).get_by_role("button", expanded=False).click()


def test_a_newcomer_adds_a_model_watches_it_come_and_load_and_removes_it(
    tab: Tab, page: Page, hub: Hub, client: httpx.Client, keep_picture: Callable[[Page, str], None]
) -> None:
    hub.faults.append(Fault(pause_after=MB))
    page.get_by_role("button", name="Add a model").click()
    page.get_by_label("Describe images").check()
    page.get_by_label("Name on huggingface.co").fill("home/shapes")
    expect(page.get_by_label("Name for requests")).to_have_value("shapes")
    tab.assert_accessible()
    keep_picture(page, "add-light")
    page.get_by_role("button", name="Add", exact=True).click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    state(tab, "shapes", "Downloading")
    row = tab.model("shapes")
    assert hub.paused.wait(20)
    expect(row.get_by_text(re.compile(r"^1\.0 MB of \d\.\d MB"))).to_be_visible(timeout=LONG)
    bar = row.get_by_role("progressbar", name="Download")
    assert 0 < float(bar.get_attribute("value") or 0) < 1
    tab.assert_accessible()
    hub.resume.set()
    state(tab, "shapes", "Not loaded")
    expect(bar).to_be_hidden()

    row.get_by_role("button", name="Load shapes").click()
    state(tab, "shapes", "Ready")
    told = client.get("/api/models/shapes").json()
    for fact in (told["backend"], told["precision"], told["device"], "once, in"):
        expect(row.locator("dl")).to_contain_text(fact)
    expect(row.locator(".model-figures")).to_contain_text(re.compile(r"\d MB.*unloads in \d+:\d\d"))
    row.get_by_role("button", name="Unload shapes").click()
    state(tab, "shapes", "Not loaded")

    act(tab, "shapes", "Remove")
    tab.assert_accessible()
    page.get_by_role("button", name="Cancel").click()
    expect(row).to_be_visible()
    act(tab, "shapes", "Remove")
    page.get_by_label("Delete its downloaded files as well").check()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text(re.compile(r"shapes is removed, and \d.* MB of its files"))).to_be_visible(timeout=LONG)
    expect(row).to_have_count(0)
    expect(page.get_by_label("Filter models")).to_be_focused()
    assert client.get("/api/models/shapes").status_code == 404


def test_what_is_wrong_with_a_new_model_is_said_where_it_was_typed_and_nothing_is_lost(tab: Tab, page: Page) -> None:
    page.get_by_role("button", name="Add a model").click()
    page.get_by_label("Name on huggingface.co").fill("/nowhere/at/all")
    page.get_by_label("Name for requests").fill("minilm")
    expect(page.get_by_label("Download it now")).to_be_hidden()
    page.get_by_role("button", name="Add", exact=True).click()
    problem = page.get_by_role("dialog").get_by_role("alert").filter(visible=True)
    expect(problem).to_have_count(1)
    tab.assert_accessible()
    page.get_by_label("Name on huggingface.co").fill("home/shapes")
    page.get_by_label("Name for requests").fill("minilm")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(problem).to_contain_text("minilm")
    expect(page.get_by_label("Name for requests")).to_have_value("minilm")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a model")).to_be_focused()


def test_a_suggestion_fills_in_the_form(tab: Tab, page: Page) -> None:
    page.get_by_role("button", name="Add a model").click()
    page.get_by_role("button", name="paraphrase-multilingual").click()
    expect(page.get_by_label("Name for requests")).to_have_value("paraphrase-multilingual-minilm-l12-v2")
    expect(page.get_by_label("Name for requests")).to_be_focused()


def test_a_model_is_pinned_disabled_and_made_the_default(tab: Tab, page: Page, client: httpx.Client) -> None:
    def shown() -> httpx.Response:
        return client.get("/api/models/twin")

    client.post("/api/models", json={"type": "text_embedding", "id": "twin", "hf_model": "home/shapes"})
    try:
        opened(tab, "twin")
        act(tab, "twin", "Pin")
        expect(tab.model("twin").locator(".marks")).to_have_text("pinned", use_inner_text=True)
        assert shown().json()["pinned"] is True
        act(tab, "twin", "Unpin")
        expect(tab.model("twin").get_by_text("30 min without a request")).to_be_visible()
        act(tab, "twin", "Make default")
        expect(tab.model("twin").locator(".marks")).to_have_text("default", use_inner_text=True)
        expect(tab.model("minilm").locator(".marks")).to_have_text("", use_inner_text=True)
        client.patch("/api/models/minilm", json={"default": True})
        expect(tab.model("minilm").locator(".marks")).to_have_text("default", use_inner_text=True)
        act(tab, "twin", "Disable")
        state(tab, "twin", "Disabled")
        assert shown().json()["enabled"] is False
        tab.model("twin").get_by_role("button", name="Enable twin").click()
        state(tab, "twin", "Not loaded")
    finally:
        client.delete("/api/models/twin")
    expect(tab.model("twin")).to_have_count(0)


def test_a_model_that_fails_says_why_and_when_it_is_tried_again(tab: Tab, page: Page, client: httpx.Client) -> None:
    client.post("/api/models", json={"type": "image_caption", "id": "broken", "hf_model": "home/no-model"})
    try:
        opened(tab, "broken")
        act(tab, "broken", "Download")
        expect(tab.model("broken").get_by_text("2.0 MB, complete")).to_be_visible(timeout=LONG)
        tab.model("broken").get_by_role("button", name="Load broken").click()
        state(tab, "broken", "Failed")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("could not be loaded")
        request_id = alert.locator("code").text_content()
        assert request_id in {error["request_id"] for error in client.get("/api/status").json()["errors"]}
        notice = tab.model("broken").locator(".notice")
        expect(notice).to_contain_text(client.get("/api/models/broken").json()["failure"])
        expect(notice).to_contain_text(re.compile(r"tried again in 0:0\d|The next request tries again"))
        tab.assert_accessible()
        page.get_by_role("button", name=re.compile("^Failed")).click()
        expect(page.locator("li.model:visible")).to_have_count(1)
    finally:
        client.delete("/api/models/broken?purge=true")


def test_a_download_that_fails_says_why(tab: Tab, page: Page, client: httpx.Client) -> None:
    client.post("/api/models", json={"type": "text_embedding", "id": "missing", "hf_model": "home/nothing-there"})
    try:
        opened(tab, "missing")
        act(tab, "missing", "Download")
        expect(tab.model("missing").get_by_text("The download failed")).to_be_visible(timeout=LONG)
    finally:
        client.delete("/api/models/missing")


def test_a_second_click_does_nothing(tab: Tab, page: Page) -> None:
    asked: list[Route] = []
    page.route("**/api/models/minilm", lambda route: asked.append(route))  # noqa: PLW0108 - it takes no method
    opened(tab, "minilm")
    tab.model("minilm").get_by_role("button", name="Pin", exact=True).dblclick()
    tab.model("minilm").get_by_role("button", name="Pin", exact=True).click()
    expect(tab.model("minilm").get_by_role("button", name="Pin", exact=True)).to_be_focused()
    assert len(asked) == 1
    asked[0].abort()
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")


def test_a_very_long_error_breaks_nothing(browser: Browser, server: Server) -> None:
    message = "could not be read: " + "x" * 9000 + " and more words" * 400
    error = {"code": "MODEL_LOAD_FAILED", "message": message, "request_id": "r" * 120, "details": {}}
    with Tab(browser, server.url, viewport=PHONE) as tab:
        tab.page.route("**/api/models/minilm/load", lambda route: route.fulfill(status=503, json={"error": error}))
        tab.open("models")
        tab.model("minilm").get_by_role("button", name="Load minilm").click()
        expect(tab.page.get_by_role("alert")).to_contain_text("and more words")
        tab.assert_fits()
        tab.assert_accessible()
        tab.page.get_by_role("button", name="Dismiss").click()
        expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_two_hundred_models_are_filtered_and_cost_nothing_while_nothing_happens(
    browser: Browser, tmp_path: Path
) -> None:
    name = "sentence-transformers/" + "a-very-long-name-" * 5 + "{0}"
    entries = "\n".join(f"    - {{id: model-{n}, hf_model: {name.format(n)}}}" for n in range(200))
    config = f"models:\n  text_embedding:\n{entries}\n"
    with Server(tmp_path, config=config) as server, Tab(browser, server.url, viewport=PHONE) as tab:
        tab.open("models/model-150")
        expect(tab.page.locator("li.model")).to_have_count(202)  # two captioners stand in the default configuration
        focused = tab.model("model-150").get_by_role("button", expanded=True)
        expect(focused).to_be_focused()
        tab.assert_fits()
        changed = tab.page.evaluate(CHANGES_OF_THREE_SECONDS)
        assert changed < 50, "what has not changed is not touched"
        expect(focused).to_be_focused()
        tab.page.get_by_label("Filter models").fill("MODEL-19")
        expect(tab.page.locator("li.model:visible")).to_have_count(11)
        tab.page.get_by_label("Filter models").fill("nothing of the kind")
        expect(tab.page.get_by_text("No model fits that filter.")).to_be_visible()
        tab.open("overview")
        expect(tab.page.get_by_role("link", name="190 more models")).to_be_visible()
        tab.assert_fits()


def test_it_is_accessible_and_fits_in_all_colours_and_widths(browser: Browser, server: Server, look: Look) -> None:
    with Tab(browser, server.url, **look.options) as tab:
        tab.open("models/minilm")
        tab.wait_until_live()
        expect(tab.model("minilm").locator("dl")).to_be_visible()
        tab.page.evaluate("document.activeElement.blur()")
        tab.assert_accessible()
        tab.assert_fits()
