"""Logs: each line as it is written, filtered, paused and cleared."""

import hashlib
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from support.server import Server
from support.tab import Look, Tab

pytestmark = pytest.mark.timeout(120)

BOSS, READER = "the-key-of-the-boss-of-this-house", "the-key-of-one-who-may-only-read"
CONFIG = f"""
security:
  allow_localhost: true
  api_keys:
    - {{name: boss, key_hash: {hashlib.sha256(BOSS.encode()).hexdigest()}, scopes: [admin, read]}}
    - {{name: reader, key_hash: {hashlib.sha256(READER.encode()).hexdigest()}, scopes: [read]}}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("logs"), config=CONFIG) as running:
        yield running


@pytest.fixture
def client(service: Server) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def logs(browser: Browser, service: Server) -> Iterator[Tab]:
    with Tab(browser, service.url) as tab:
        tab.open("logs")
        tab.wait_until_live()
        yield tab


def lines(tab: Tab) -> Locator:
    """Those that are shown."""
    return tab.page.locator(".log li:not([hidden])")


def ask(client: httpx.Client, path: str = "/api/models") -> str:
    """Make a request that can be told from all others, and return its id."""
    request_id = str(uuid.uuid4())
    client.get(path, headers={"X-Request-ID": request_id})
    return request_id


def only(tab: Tab, words: str) -> Locator:
    tab.page.get_by_label("Words of the line").fill(words)
    return lines(tab)


def test_a_request_is_there_as_it_happens(logs: Tab, client: httpx.Client) -> None:
    request_id = ask(client, "/api/models/nothing-of-that-name")
    line = only(logs, request_id)
    expect(line).to_contain_text("404")
    expect(line).to_contain_text("127.0.0.1")
    expect(line).to_have_class("warning")
    expect(line.get_by_role("button")).to_have_text(request_id[:8])
    logs.assert_accessible()


def test_a_message_of_the_service_is_there_too(logs: Tab, client: httpx.Client) -> None:
    client.post("/api/keys", json={"name": "made-for-the-log"})
    line = only(logs, "made-for-the-log").filter(has_text="info")
    expect(line).to_contain_text("the key 'made-for-the-log'")
    logs.page.get_by_label("Show").select_option("messages")
    expect(line).to_be_visible()
    logs.page.get_by_label("Show").select_option("requests")
    expect(lines(logs)).to_have_count(0)
    expect(logs.page.get_by_text("No line has these words")).to_be_visible()


def test_a_click_on_the_id_of_a_request_shows_its_lines_alone(logs: Tab, client: httpx.Client) -> None:
    first, second = ask(client), ask(client)
    expect(only(logs, second)).to_have_count(1)
    only(logs, "")
    button = logs.page.get_by_role("button", name=first[:8])
    button.click()
    expect(lines(logs)).to_have_count(1)
    expect(logs.page.get_by_label("Words of the line")).to_have_value(first)
    button.click()
    expect(logs.page.get_by_role("button", name=second[:8])).to_be_visible()


def test_a_pause_holds_lines_back_and_clearing_takes_them_away(logs: Tab, client: httpx.Client) -> None:
    expect(only(logs, ask(client))).to_have_count(1)
    pause = logs.page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    held = ask(client)
    expect(logs.page.get_by_text("more since the pause")).to_be_visible()
    expect(only(logs, held)).to_have_count(0)
    pause.click()
    expect(lines(logs)).to_have_count(1)
    logs.page.get_by_role("button", name="Clear").click()
    expect(logs.page.locator(".log li")).to_have_count(0)
    expect(only(logs, ask(client))).to_have_count(1)


def test_the_newest_line_stays_in_sight_unless_somebody_reads_further_up(logs: Tab, client: httpx.Client) -> None:
    for _ in range(60):
        newest = ask(client)
    newest_line = logs.page.get_by_role("button", name=newest[:8])
    expect(newest_line).to_be_in_viewport()
    log = logs.page.locator(".log")
    log.evaluate("(log) => { log.scrollTop = 0; }")
    to_end = logs.page.get_by_role("button", name="To the newest")
    expect(to_end).to_be_visible()
    later = ask(client)
    expect(logs.page.get_by_role("button", name=later[:8])).to_be_attached()
    assert log.evaluate("(log) => log.scrollTop") == 0
    to_end.click()
    expect(logs.page.get_by_role("button", name=later[:8])).to_be_in_viewport()
    expect(to_end).to_be_hidden()


def test_the_page_keeps_no_more_lines_than_it_can_show(logs: Tab, client: httpx.Client) -> None:
    """Of 2,100 lines that come within a moment; the stream itself sends no more than the last 200 of them."""
    logs.page.evaluate(
        """async () => {
          const { default: view } = await import(new URL("js/views/logs.js", document.baseURI));
          const root = document.createElement("div");
          root.id = "crowded";
          document.body.append(root);
          const on = (_, listener) => {
            for (let number = 0; number < 2100; number += 1) {
              listener({ time: new Date().toISOString(), level: "INFO", logger: "test", message: `line ${number}` });
            }
            return () => {};
          };
          view.mount(root, { stream: { on } });
        }"""
    )
    crowded = logs.page.locator("#crowded .log li")
    expect(crowded).to_have_count(2000)
    expect(crowded.first).to_contain_text("line 100")
    expect(crowded.last).to_contain_text("line 2099")


def test_without_admin_the_page_says_why_there_is_nothing(browser: Browser, service: Server) -> None:
    with Tab(browser, service.url) as tab:
        tab.open("logs")
        tab.page.get_by_role("button", name="Use a key").click()
        tab.say_key(READER)
        expect(tab.heading("“Logs” needs the scope admin. reader has read.")).to_be_visible()


def test_everybody_can_read_it_in_every_light(
    browser: Browser,
    service: Server,
    client: httpx.Client,
    look: Look,
    keep_picture: Callable[[Page, str], None],
) -> None:
    with Tab(browser, service.url, **look.options) as tab:
        tab.open("logs")
        expect(only(tab, ask(client, f"/api/models/{'long' * 40}"))).to_be_visible()
        only(tab, "")
        tab.assert_fits()
        tab.assert_accessible()
        keep_picture(tab.page, f"logs-{look.name}")
