"""Chromium, driven by Playwright: one browser, and for each page a context of its own, of which nothing is left.

All that a page sends goes through the proxy of its own context. The browser itself has a proxy that leads nowhere and
can resolve no name, so what does not belong to a page goes nowhere at all.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Error, Playwright, ViewportSize, async_playwright

from homelab_ai.crawling import processes
from homelab_ai.crawling.engines.interception import Ask
from homelab_ai.crawling.engines.visit import Visit
from homelab_ai.crawling.pages import Rendered, RenderFailed

_LAUNCH_SECONDS = 20.0
_CLOSE_SECONDS = 5.0
_NEWS_SECONDS = 0.5
"""After the end of a page, within which the driver tells of the end of the whole browser."""
_SANDBOX = re.compile("sandbox|namespace|setuid", re.IGNORECASE)
"""What Chromium says when it is the sandbox that keeps it from starting; only then is it started without."""
_VIEWPORT = ViewportSize(width=1280, height=800)
_DEBIAN = Path("/usr/lib/chromium")
"""Where Debian has it. What is on the path there are shell scripts with flags of their own."""
_SHELL, _WHOLE = "chromium-headless-shell", "chromium"
_NAMES = (_SHELL, _WHOLE, "chromium-browser", "google-chrome-stable", "google-chrome")
_NOWHERE = "http://127.0.0.1:1"

# Of two such flags Chromium goes by the last, so this one holds what stands in Playwright's.
_FEATURES_OFF = (
    "WebRtcHideLocalIpsWithMdns",  # it would join a multicast group of the home's network, with a page's first call
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch"),
    *("TcpPortRandomizationWin", "ThirdPartyStoragePartitioning"),
    *("msEdgeUpdateLaunchServicesPreferredVersion", "msForceBrowserSignIn"),
)
_FLAGS = (
    f"--disable-features={','.join(_FEATURES_OFF)}",
    # Nothing goes around the proxy: no name is resolved here, no UDP sent, no QUIC spoken.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--dns-prefetch-disable",
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-blink-features=WebTransport,FedCm,DirectSockets",
    # The browser has no business of its own. Playwright switches off most of it already.
    "--no-pings",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-speech-api",
    "--disable-notifications",
    "--disable-gpu",
    "--disable-3d-apis",
    "--mute-audio",
    "--js-flags=--max-old-space-size=1024",  # MB of one page's scripts
    "--deny-permission-prompts",
    "--disable-print-preview",
)
_NOT_OF_PLAYWRIGHT = (
    "--disable-popup-blocking",
    "--disable-ipc-flooding-protection",  # against scripts that navigate without end
    "--enable-unsafe-swiftshader",
)


class LaunchFailed(Exception):
    """There is no browser, or it does not start. The text is the end of a sentence."""


class Chromium:
    """A running browser."""

    def __init__(self, browser: Browser, described: dict[str, Any]) -> None:
        self._browser = browser
        self.described = described
        """What there is to know of it: `version`, and whether it is `sandboxed`."""
        self.ended = asyncio.Event()
        """Set when it cannot be used any more."""
        self._closing: set[asyncio.Task[None]] = set()
        major = browser.version.partition(".")[0]
        self._user_agent = (
            f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"
        )
        browser.on("disconnected", lambda _: self.ended.set())

    @classmethod
    async def launch(cls, options: Mapping[str, Any]) -> Self:
        """Start the browser of this machine, in its sandbox where it can be (`options["sandbox"]`: None to find out).

        Raises `LaunchFailed`.
        """
        try:
            async with asyncio.timeout(_LAUNCH_SECONDS):
                playwright = await async_playwright().start()
        except (Error, OSError, TimeoutError) as error:
            raise LaunchFailed("the driver of the browser does not start") from error
        _reap_orphans(set(processes.below(os.getpid())))
        program = find(playwright)
        tries = {None: (True, False), True: (True,), False: (False,)}[options["sandbox"]]
        if hasattr(os, "geteuid") and os.geteuid() == 0 and options["sandbox"] is None:
            tries = (False,)  # Chromium refuses to run as root in a sandbox
        for sandbox in tries:
            try:
                browser = await playwright.chromium.launch(
                    executable_path=program,
                    args=[*_FLAGS, *options.get("flags", ())],
                    ignore_default_args=list(_NOT_OF_PLAYWRIGHT),
                    chromium_sandbox=sandbox,
                    proxy={"server": _NOWHERE, "bypass": "<-loopback>"},
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                    timeout=_LAUNCH_SECONDS * 1000,
                )
            except Error as error:
                if sandbox is not tries[-1] and _SANDBOX.search(error.message):
                    continue
                raise LaunchFailed(_why(error)) from error
            return cls(browser, {"version": browser.version, "sandboxed": sandbox})
        raise LaunchFailed("it does not start")

    async def render(self, wish: Mapping[str, Any], ask: Ask) -> Rendered:
        """Render one page, in a context of its own. Raises `RenderFailed`."""
        end = asyncio.get_running_loop().time() + wish["seconds"]
        try:
            async with self._context(wish, end) as context:
                return await Visit(context, wish, end, ask).carry_out()
        except TimeoutError:
            raise RenderFailed("timeout", "") from None
        except Error as error:
            if self.ended.is_set():
                raise RenderFailed("crashed", "") from error
            raise
        except RenderFailed as error:
            if error.kind == "crashed":  # is it the page alone?
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), _NEWS_SECONDS)
            raise

    @contextlib.asynccontextmanager
    async def _context(self, wish: Mapping[str, Any], end: float) -> AsyncIterator[BrowserContext]:
        opening = asyncio.create_task(self._open(wish))
        try:
            async with asyncio.timeout_at(end):
                context = await asyncio.shield(opening)
        except Error:
            self.ended.set()  # without a context, there is no browser
            raise
        except BaseException:
            opening.add_done_callback(self._close_unwanted)
            raise
        try:
            yield context
        finally:
            await asyncio.shield(asyncio.create_task(self._close(context)))

    async def _open(self, wish: Mapping[str, Any]) -> BrowserContext:
        return await self._browser.new_context(
            proxy={
                "server": wish["proxy"],
                "bypass": "<-loopback>",
                "username": wish["username"],
                "password": wish["password"],
            },
            user_agent=wish["user_agent"] or self._user_agent,
            viewport=_VIEWPORT,
            accept_downloads=False,
            service_workers="block",
            permissions=[],
            reduced_motion="reduce",
        )

    def _close_unwanted(self, opening: "asyncio.Task[BrowserContext]") -> None:
        if not opening.cancelled() and not opening.exception():
            closing = asyncio.create_task(self._close(opening.result()))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, context: BrowserContext) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await context.close()
        except (Error, TimeoutError):
            self.ended.set()  # a browser that does not let go of a page is not given another


def _reap_orphans(own: set[int]) -> None:
    """Take from the kernel's table what Chromium leaves behind, which comes to us; `own` asyncio waits for itself."""

    def reap() -> None:
        with contextlib.suppress(ChildProcessError):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while (ended := os.waitid(os.P_ALL, 0, flags)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, os.WNOHANG)

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)


def find(playwright: Playwright) -> Path | None:
    """Where the browser is. None for Playwright's own, or none at all: that it finds out itself.

    The headless shell first: it is the same engine without windows, and opens pages three times as fast.
    """
    if (_DEBIAN / _SHELL).exists():
        return _DEBIAN / _SHELL
    if Path(playwright.chromium.executable_path).exists():
        return None
    if (_DEBIAN / _WHOLE).exists():
        return _DEBIAN / _WHOLE
    for name in _NAMES:
        if path := shutil.which(name):
            return Path(path)
    return None  # of its own, there may be the headless shell alone


def _why(error: Error) -> str:
    """A sentence of what Playwright says in a page, paths of this machine included."""
    if "Executable doesn't exist" in error.message:
        return "no Chromium is installed; on Debian: apt-get install chromium-headless-shell"
    if "Timeout" in error.message:
        return f"Chromium has not started within {_LAUNCH_SECONDS:g} s"
    return "Chromium ends as soon as it is started; start it by hand to see why"
