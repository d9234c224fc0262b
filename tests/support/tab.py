"""A tab of a real browser in which the admin page is open, and all that must not happen in it."""

import contextlib
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    Route,
    ViewportSize,
    expect,
    sync_playwright,
)

from homelab_ai.crawling.engines import chromium

DESKTOP = ViewportSize(width=1280, height=860)
PHONE = ViewportSize(width=360, height=760)


class Look(NamedTuple):
    """A light and a width in which everybody must be able to use the page."""

    name: str
    options: dict[str, Any]
    """Of the tab."""


LOOKS = [
    Look(f"{scheme}{suffix}", {"color_scheme": scheme, "viewport": viewport})
    for scheme in ("light", "dark")
    for viewport, suffix in ((DESKTOP, ""), (PHONE, "-phone"))
]

expect.set_options(timeout=30_000)  # milliseconds, on a machine that is at something else, too

_NOWHERE = "http://127.0.0.1:1"
_WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`the page's own policy was violated: ${event.violatedDirective} ${event.blockedURI}`));
"""


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """This machine's Chromium. It resolves no name, and has no way to anything but this machine."""
    with sync_playwright() as playwright:
        program = chromium.find(playwright)  # type: ignore[arg-type] # it asks of both kinds the same
        running = playwright.chromium.launch(
            executable_path=program,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
            proxy={"server": _NOWHERE, "bypass": "127.0.0.1"},
        )
        try:
            yield running
        finally:
            running.close()


class Tab:
    """Use it as a context manager. At its end it fails on whatever went wrong in the page in the meantime."""

    def __init__(self, running: Browser, url: str, **options: Any) -> None:
        fixed = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce"}
        options = {"viewport": DESKTOP, **fixed, **options}
        self.url = url
        self.wrong: list[str] = []
        """Errors of scripts, violations of the page's own policy, requests to elsewhere, files that are not there."""
        self._context: BrowserContext = running.new_context(**options)
        self._context.add_init_script(_WATCH)
        self._context.route("**/*", self._let_through)
        self._context.on("response", self._note_response)
        self._context.on("console", self._note_message)
        self._context.on("weberror", lambda error: self.wrong.append(f"an error that nothing caught: {error.error}"))
        self.page: Page = self._context.new_page()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert not self.wrong, self.wrong

    def open(self, view: str = "overview") -> Self:
        self.page.goto(f"{self.url}/admin/#{view}")
        return self

    def say_key(self, key: str) -> None:
        """Type a key into the question for it."""
        self.page.get_by_label("API key", exact=True).fill(key)
        self.page.get_by_role("button", name="Open", exact=True).click()

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", level=1, name=name)

    def wait_until_live(self) -> None:
        expect(self.page.locator("#standing")).to_contain_text("Live")

    def model(self, model_id: str) -> Locator:
        """The row of that model in the view of models."""
        return self.page.locator("li.model").filter(has=self.page.get_by_text(model_id, exact=True))

    def assert_accessible(self) -> None:
        """Have axe look at the page as it is now."""
        self.page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
        found = self.page.evaluate("() => axe.run()")["violations"]
        told = [f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']][:5]}" for each in found]
        assert not told, "\n".join(told)

    def assert_fits(self) -> None:
        """Nothing is wider than the window."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, f"{wide} pixels too wide"

    def _let_through(self, route: Route) -> None:
        asked = urlsplit(route.request.url)
        if asked.netloc == urlsplit(self.url).netloc or asked.scheme in {"data", "blob"}:
            route.continue_()
        else:
            self.wrong.append(f"a request to another host: {route.request.url}")
            route.abort()

    def _note_response(self, response: Response) -> None:
        if "/admin/" in response.url and response.status >= 400:
            self.wrong.append(f"{response.url}: {response.status}")

    def _note_message(self, message: ConsoleMessage) -> None:
        # What the browser itself says of answers with 4xx is no error of the page: it asks for what may be refused.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.wrong.append(message.text)
