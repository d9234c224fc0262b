"""The page's frame: keys, views, the keyboard, and a service that goes and comes back."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.server import Server, free_port
from support.tab import PHONE, Tab

pytestmark = pytest.mark.timeout(120)

BOSS, READER = "the-key-of-the-boss-of-this-house", "the-key-of-one-who-may-only-read"
CONFIG = f"""
security:
  api_keys:
    - {{name: boss, key_hash: {hashlib.sha256(BOSS.encode()).hexdigest()}, scopes: [admin, read, embed]}}
    - {{name: reader, key_hash: {hashlib.sha256(READER.encode()).hexdigest()}, scopes: [read]}}
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that wants a key."""
    with Server(tmp_path_factory.mktemp("locked"), environment={}, config=CONFIG) as running:
        yield running


def test_where_no_key_is_needed_none_is_asked_for(tab: Tab) -> None:
    tab.open()
    tab.wait_until_live()
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    expect(tab.page.locator("#standing")).to_contain_text("localhost")


def test_a_key_is_asked_for_once_and_kept_for_the_tab(browser: Browser, locked: Server) -> None:
    with Tab(browser, locked.url) as tab:
        tab.open("models")
        tab.assert_accessible()
        tab.say_key("a-wrong-key-and-a-long-one-at-that")
        field = tab.page.get_by_label("API key", exact=True)
        expect(tab.page.get_by_text("That key is not valid")).to_be_visible()
        expect(field).to_have_value("a-wrong-key-and-a-long-one-at-that")
        expect(field).to_be_focused()
        tab.say_key("with an ä")
        expect(tab.page.get_by_text("no letters with accents")).to_be_visible()
        tab.say_key(BOSS)
        tab.wait_until_live()
        expect(tab.heading("Models")).to_be_visible()
        tab.page.reload()
        tab.wait_until_live()
        expect(tab.page.get_by_role("dialog")).to_have_count(0)
        assert tab.page.evaluate("localStorage.length") == 0
        assert BOSS not in tab.page.url
        tab.page.get_by_role("button", name="Forget key").click()
        expect(tab.page.get_by_role("dialog")).to_be_visible()


def test_who_closes_the_question_can_have_it_again(browser: Browser, locked: Server) -> None:
    with Tab(browser, locked.url) as tab:
        tab.open()
        tab.page.get_by_label("API key", exact=True).press("Escape")
        expect(tab.heading("Nothing can be shown without a key")).to_be_visible()
        tab.assert_accessible()
        tab.page.get_by_role("button", name="Enter a key").click()
        tab.say_key(READER)
        expect(tab.heading("Overview")).to_be_visible()
        tab.wait_until_live()


def test_a_new_key_of_the_same_name_brings_the_page_back(browser: Browser, locked: Server) -> None:
    def make() -> str:
        made = boss.post("/api/keys", json={"name": "tablet", "scopes": ["read"]})
        key: str = made.json()["key"]
        return key

    with locked.client(headers={"Authorization": f"Bearer {BOSS}"}) as boss, Tab(browser, locked.url) as tab:
        tab.open()
        tab.say_key(make())
        tab.wait_until_live()
        boss.delete("/api/keys/tablet").raise_for_status()
        expect(tab.page.get_by_text("The key that this tab had is not valid any more")).to_be_visible()
        tab.page.get_by_label("API key", exact=True).press("Escape")
        expect(tab.page.locator("#standing")).to_contain_text("Not connected")
        tab.page.get_by_role("button", name="Change key").click()
        tab.say_key(make())
        tab.wait_until_live()


def test_a_key_without_admin_may_look_only_and_is_told_why(browser: Browser, locked: Server) -> None:
    with Tab(browser, locked.url) as tab:
        tab.open("models")
        tab.say_key(READER)
        expect(tab.model("minilm")).to_be_visible()
        expect(tab.page.get_by_text("that needs the scope admin, which reader does not have")).to_be_visible()
        tab.model("minilm").get_by_role("button").click()
        for action in ("Load", "Add a model", "Remove", "Pin"):
            expect(tab.page.get_by_role("button", name=action, exact=True)).to_have_count(0)
        tab.page.get_by_role("button", name="Change key").click()
        tab.say_key(BOSS)
        expect(tab.page.get_by_role("button", name="Add a model")).to_be_visible()


def test_every_view_is_reached_by_the_keyboard(tab: Tab) -> None:
    tab.open()
    tab.wait_until_live()
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("main")).to_be_focused()
    expect(tab.heading("Overview")).to_be_visible()
    tab.page.get_by_role("navigation").get_by_role("link", name="Models").press("Enter")
    expect(tab.heading("Models")).to_be_visible()
    expect(tab.page.locator("main")).to_be_focused()
    expect(tab.page).to_have_title("Models · homelab-ai")
    tab.page.go_back()
    expect(tab.heading("Overview")).to_be_visible()


def test_the_service_goes_and_comes_back_under_the_page(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    with Server(tmp_path, port=port) as first, Tab(browser, first.url, viewport=PHONE) as tab:
        tab.open("models")
        tab.wait_until_live()
        tab.page.get_by_label("Filter models").fill("mini")
        expect(tab.model("minilm")).to_be_visible()
        first.stop()
        expect(tab.page.locator("#banner")).to_contain_text("does not answer")
        expect(tab.page.locator("#standing")).to_contain_text("Not connected")
        tab.assert_accessible()
        tab.assert_fits()
        tab.model("minilm").get_by_role("button", name="Load").click()
        expect(tab.page.get_by_role("alert").filter(has_text="The service does not answer")).to_be_visible()
        with tab.page.expect_request("**/api/stream"):
            tab.page.get_by_role("button", name="Try now").click()
        with Server(tmp_path, port=port):
            tab.wait_until_live()
            expect(tab.page.locator("#banner")).to_be_hidden()
            expect(tab.page.get_by_label("Filter models")).to_have_value("mini")


def test_it_works_below_a_prefix(browser: Browser, tmp_path: Path) -> None:
    with (
        Server(tmp_path, config="server: {root_path: /ai}\n") as server,
        Tab(browser, f"{server.url}/ai") as tab,
    ):
        tab.page.goto(f"{server.url}/ai/admin")
        tab.wait_until_live()
        assert tab.page.url == f"{server.url}/ai/admin/"
        tab.page.get_by_role("navigation").get_by_role("link", name="Models").click()
        expect(tab.model("minilm")).to_be_visible()
        expect(tab.page.get_by_role("link", name="API")).to_have_attribute("href", f"{server.url}/ai/docs")
