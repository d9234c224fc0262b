"""Keys: made and shown once, listed, and revoked."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from support.server import Server
from support.tab import Look, Tab

pytestmark = pytest.mark.timeout(180)

BOSS, FIRST = "the-key-of-the-boss-of-this-house", "the-key-that-is-made-before-all-others"
CONFIG = f"""
models:
  text_embedding:
    - {{id: minilm, hf_model: sentence-transformers/all-MiniLM-L6-v2, default: true}}
    - {{id: another, hf_model: sentence-transformers/all-MiniLM-L6-v2}}
security:
  api_keys:
    - name: boss
      key_hash: {hashlib.sha256(BOSS.encode()).hexdigest()}
      scopes: [admin, read, embed, crawl]
      rate_limit: 5000/minute
      crawl_allow_networks: [192.168.7.0/24]
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that wants a key."""
    with Server(tmp_path_factory.mktemp("keys"), environment={}, config=CONFIG) as running:
        yield running


@pytest.fixture
def keys(browser: Browser, locked: Server) -> Iterator[Tab]:
    with Tab(browser, locked.url, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.open("keys")
        tab.say_key(BOSS)
        expect(row(tab, "boss")).to_be_visible()
        yield tab


def row(tab: Tab, name: str) -> Locator:
    return tab.page.locator("tr").filter(has=tab.page.get_by_role("rowheader", name=name))


def make(tab: Tab, name: str, *, close: bool = True) -> str:
    """Make a key that may do what is ticked, and return what the page shows of it."""
    tab.page.get_by_role("button", name="New key").click()
    tab.page.get_by_label("Name").fill(name)
    return made(tab, name, close=close)


def made(tab: Tab, name: str, *, close: bool = True) -> str:
    tab.page.get_by_role("button", name="Make the key").click()
    dialog = tab.page.get_by_role("dialog", name=f"The key of {name}")
    key = dialog.get_by_role("region", name="the key").inner_text()
    if close:
        dialog.get_by_role("button", name="I have it").click()
        expect(tab.page.locator("dialog")).to_have_count(0)
    return key


def copied(page: Page, what: str) -> str:
    """Press the button that copies it, and return what is on the clipboard once the button says that it is there."""
    button = page.get_by_role("button", name=f"Copy {what}", exact=True)
    button.click()
    expect(button).to_have_text("Copied")
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def answered(server: Server, key: str, path: str = "/api/whoami") -> httpx.Response:
    with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        return client.get(path)


def test_a_key_is_shown_once_and_opens_what_was_ticked(keys: Tab, locked: Server) -> None:
    page = keys.page
    page.get_by_role("button", name="New key").click()
    expect(page.get_by_label("Name")).to_be_focused()
    keys.assert_accessible()
    page.get_by_label("Name").fill("voice box / kitchen?")
    page.get_by_label("Limit").fill("90/minute")
    for scope in ("caption", "crawl"):
        page.get_by_label(scope, exact=True).uncheck()
    page.get_by_label("another", exact=True).check()
    key = made(keys, "voice box / kitchen?", close=False)
    assert key.startswith("hlab_")
    keys.assert_accessible()
    assert copied(page, "the key") == key
    page.get_by_role("button", name="I have it").click()

    expect(page.locator("dialog")).to_have_count(0)
    assert key not in page.content()
    assert key not in page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    listed = row(keys, "voice box / kitchen?")
    expect(listed.get_by_role("cell")).to_contain_text(
        ["embedread", "90/minute", "another", "as all", "at run time", "not since"]
    )
    whoami = answered(locked, key)
    assert whoami.json() == {
        "name": "voice box / kitchen?",
        "scopes": ["embed", "read"],
        "models": ["another"],
        "authenticated_by": "key",
    }
    assert whoami.headers["RateLimit-Limit"] == "90"


def test_the_lines_for_a_shell_work_as_they_are(keys: Tab, tmp_path: Path) -> None:
    key = make(keys, "shell", close=False)
    lines = copied(keys.page, "the lines for a shell")
    assert lines.startswith(f"export HOMELAB_AI_API_KEY={key}\ncurl ")
    done = subprocess.run(
        ["bash", "-c", lines],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=150,
    )
    assert httpx.Response(200, content=done.stdout).json()["dimensions"] == 384, done.stderr
    keys.page.get_by_role("button", name="I have it").click()


def test_where_browsers_have_no_clipboard_the_key_is_copied_all_the_same(keys: Tab) -> None:
    """On plain HTTP from another machine, that is."""
    keys.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    key = make(keys, "plain", close=False)
    button = keys.page.get_by_role("button", name="Copy the key", exact=True)
    button.click()
    expect(button).to_have_text("Copied")
    expect(button).to_be_focused()
    keys.page.get_by_role("button", name="I have it").click()
    keys.page.get_by_role("button", name="New key").click()
    keys.page.get_by_label("Name").press("Control+v")
    expect(keys.page.get_by_label("Name")).to_have_value(key)


def test_escape_takes_the_key_away_too(keys: Tab) -> None:
    key = make(keys, "escaped", close=False)
    keys.page.keyboard.press("Escape")
    expect(keys.page.locator("dialog")).to_have_count(0)
    assert key not in keys.page.content()


def test_what_is_wrong_is_said_and_nothing_that_was_typed_is_lost(keys: Tab) -> None:
    page = keys.page
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("boss")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("There is a key called 'boss' among config.yaml")
    page.get_by_label("Name").fill("another-boss")
    page.get_by_label("Limit").fill("often")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("rate_limit")
    expect(page.get_by_label("Limit")).to_have_value("often")
    expect(row(keys, "another-boss")).to_have_count(0)
    keys.assert_accessible()


def test_revoking_asks_first(keys: Tab, locked: Server) -> None:
    key = make(keys, "short-lived")
    assert answered(locked, key).status_code == 200
    keys.page.reload()
    revoke = row(keys, "short-lived").get_by_role("button", name="Revoke short-lived")
    revoke.click()
    question = keys.page.get_by_role("dialog", name="Revoke short-lived?")
    expect(question).to_contain_text("Whoever uses it is refused")
    question.get_by_role("button", name="Cancel").click()
    assert answered(locked, key).status_code == 200
    revoke.click()
    question.get_by_role("button", name="Revoke", exact=True).click()
    expect(row(keys, "short-lived")).to_have_count(0)
    assert answered(locked, key).status_code == 401
    expect(keys.page.get_by_role("button", name="New key")).to_be_focused()


def test_a_key_of_the_configuration_is_marked_and_removed_there(keys: Tab) -> None:
    boss = row(keys, "boss")
    expect(boss).to_contain_text("this page")
    expect(boss.get_by_role("cell")).to_contain_text(
        ["admin", "5000/minute", "all", "192.168.7.0/24", "in config.yaml", ""]
    )
    expect(boss.get_by_role("button")).to_have_count(0)
    expect(boss).to_contain_text("remove it there")
    expect(keys.page.locator("main")).to_contain_text("removed in config.yaml, under security.api_keys")


def test_who_revokes_the_key_of_the_page_is_warned_and_asked_for_another(
    browser: Browser, keys: Tab, locked: Server
) -> None:
    page = keys.page
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("own")
    page.get_by_label("admin", exact=True).check()
    key = made(keys, "own")
    with Tab(browser, locked.url) as tab:
        tab.open("keys")
        tab.say_key(key)
        tab.page.get_by_role("button", name="Revoke own").click()
        question = tab.page.get_by_role("dialog", name="Revoke own?")
        expect(question).to_contain_text("This page itself uses that key")
        question.get_by_role("button", name="Revoke", exact=True).click()
        expect(tab.page.get_by_label("API key", exact=True)).to_be_visible()
        expect(tab.page.get_by_text("The key that this tab had is not valid any more")).to_be_visible()
        tab.say_key(BOSS)
        expect(row(tab, "boss")).to_be_visible()
        expect(row(tab, "own")).to_have_count(0)


def test_the_last_admin_key_takes_a_second_answer(browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path) as server, Tab(browser, server.url) as tab:  # its first start has made the key `admin`
        tab.open("keys")
        tab.page.get_by_role("button", name="Revoke admin").click()
        tab.page.get_by_role("button", name="Revoke", exact=True).click()
        question = tab.page.get_by_role("dialog", name="The last admin key")
        expect(question).to_contain_text("is the last key with the scope admin")
        question.get_by_role("button", name="Cancel").click()
        expect(row(tab, "admin")).to_be_visible()
        tab.page.get_by_role("button", name="Revoke admin").click()
        tab.page.get_by_role("button", name="Revoke", exact=True).click()
        question.get_by_role("button", name="Revoke all the same").click()
        expect(row(tab, "admin")).to_have_count(0)


def test_everybody_can_read_it_in_every_light(
    browser: Browser, locked: Server, look: Look, keep_picture: Callable[[Page, str], None]
) -> None:
    with Tab(browser, locked.url, **look.options) as tab:
        tab.open("keys")
        tab.say_key(BOSS)
        expect(row(tab, "boss")).to_be_visible()
        tab.page.get_by_role("button", name="New key").click()
        tab.assert_fits()
        tab.assert_accessible()
        keep_picture(tab.page, f"keys-{look.name}")
