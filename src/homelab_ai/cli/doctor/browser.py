"""The browser: whether it starts, as the service would start it, and whether in its sandbox."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from homelab_ai.cli.doctor import sandbox
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.crawling.browser_process import BrowserProcess, BrowserStartFailed

_INSTALL = "apt-get install chromium-headless-shell"


def started() -> dict[str, Any]:
    """Start the browser, end it, and return what it said of itself. Raises `BrowserStartFailed`."""

    async def start() -> dict[str, Any]:
        process = await BrowserProcess.start({"sandbox": None})
        await process.stop()
        return process.described

    return asyncio.run(start())


def of_browser(
    sandboxed_in_service: bool | None,
    *,
    start: Callable[[], dict[str, Any]] = started,
    facts: Callable[[], sandbox.Facts] = sandbox.facts,
) -> Iterator[Finding]:
    """Whether pages can be shown, and are kept in the sandbox. The running service's word counts, if it has one."""
    try:
        found = start()
    except BrowserStartFailed as failure:
        yield Finding("browser", "warning", f"pages cannot be rendered: {failure}", _INSTALL)
        return
    yield Finding("browser", "ok", f"Chromium {found['version']} starts")
    here = found["sandboxed"]
    if sandboxed_in_service if sandboxed_in_service is not None else here:
        yield Finding("sandbox", "ok", "on" if here else "on in the running service, if not for whoever asks here")
    elif here:
        saw = "off in the running service, but on here: it runs as another user, or in a container"
        yield Finding("sandbox", "warning", saw, "homelab-ai doctor, as that user or in that container")
    else:
        reason, mend = sandbox.why(facts())
        saw = f"off: {reason}. A page that finds a hole in Chromium can do what this user can"
        yield Finding("sandbox", "warning", saw, mend)
