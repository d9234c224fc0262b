"""The watch that all tests of the page rely on: each thing that must not happen is noticed when it does."""

import pytest
from playwright.sync_api import Browser, expect

from support.server import Server
from support.tab import Tab

WRONG = {
    "an error": ("setTimeout(() => { throw new Error('of a script'); })", "of a script"),
    "a rejection": ("void Promise.reject(new Error('of a promise'))", "of a promise"),
    "an image": ("void (new Image().src = 'http://elsewhere.example/a.png')", "policy"),
    "a request": ("fetch('http://elsewhere.example/').catch(() => 0)", "policy"),
    "a script": ("document.head.append(Object.assign(document.createElement('script'), {text: '1'}))", "policy"),
    "a style": ("document.body.setAttribute('style', 'color: red')", "policy"),
    "a way out": ("void (location.href = 'http://elsewhere.example/')", "another host"),
    "a file": ("fetch('missing.js')", "missing.js: 404"),
    "a message": ("console.error('that something is wrong')", "something is wrong"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_must_not_happen_is_noticed(browser: Browser, server: Server, wrong: str) -> None:
    script, said = WRONG[wrong]
    tab = Tab(browser, server.url).open()
    tab.wait_until_live()
    assert not tab.wrong
    tab.page.evaluate(script)
    while not any(said in each for each in tab.wrong):  # or the time of the test is over
        tab.page.wait_for_timeout(20)
    with pytest.raises(AssertionError, match=said):
        tab.__exit__(None, None, None)


def test_what_is_not_accessible_is_noticed(tab: Tab) -> None:
    tab.open()
    tab.wait_until_live()
    tab.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    with pytest.raises(AssertionError, match="button-name"):
        tab.assert_accessible()


def test_what_is_too_wide_is_noticed(tab: Tab) -> None:
    tab.open()
    expect(tab.heading("Overview")).to_be_visible()
    tab.page.evaluate("document.querySelector('h1').textContent = 'x'.repeat(2000)")
    with pytest.raises(AssertionError, match="too wide"):
        tab.assert_fits()
