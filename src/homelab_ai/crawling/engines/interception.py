"""What a page is about to send, held until it is clear whether, and with which headers, it goes out.

By the protocol itself, because Playwright's routes would ask for each request, and send headers that they have added
along to wherever a request is redirected.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from playwright.async_api import CDPSession, Error

_HEAVY = ("Image", "Media", "Font")

Ask = Callable[[str], Awaitable[None]]
"""Returns when the page may go to this address."""


@dataclass(frozen=True)
class Interception:
    """Leaves out what is heavy, has the caller's headers go to the page's own origin, and asks where that is wished."""

    cdp: CDPSession
    wish: Mapping[str, Any]
    frame: str
    """What the protocol calls the page itself."""
    ask: Ask
    in_background: Callable[[Coroutine[Any, Any, None]], None]

    async def start(self) -> None:
        """Hold from now on what has to be looked at, and nothing else."""
        patterns: list[dict[str, str]] = []
        if not self.wish["screenshot"]:
            patterns += [{"resourceType": kind} for kind in _HEAVY]
        if self.wish["headers"]:
            patterns.append({"urlPattern": self.wish["origin"] + "/*"})
        if self.wish["asks"]:
            patterns.append({"resourceType": "Document"})
        if patterns:
            self.cdp.on("Fetch.requestPaused", lambda event: self.in_background(self._go_on(event)))
            await self.cdp.send("Fetch.enable", {"patterns": patterns})

    async def _go_on(self, event: dict[str, Any]) -> None:
        request, method = {"requestId": event["requestId"]}, "Fetch.continueRequest"
        url: str = event["request"]["url"]
        if event["resourceType"] in _HEAVY and not self.wish["screenshot"]:
            method, parameters = "Fetch.failRequest", request | {"errorReason": "BlockedByClient"}
        else:
            if self.wish["asks"] and event["resourceType"] == "Document" and event["frameId"] == self.frame:
                await self.ask(url)
            parameters = request | self._headers(url, event["request"]["headers"])
        try:
            await self.cdp.send(method, parameters)
        except Error:  # it is not wanted any more, or has headers that no browser sends: it must not wait for ever
            await self.cdp.send("Fetch.failRequest", request | {"errorReason": "Failed"})

    def _headers(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        given: dict[str, str] = self.wish["headers"]
        if not given or not (url + "/").startswith(self.wish["origin"] + "/"):
            return {}
        own = {name.lower() for name in given}
        sent = {name: value for name, value in headers.items() if name.lower() not in own} | given
        return {"headers": [{"name": name, "value": value} for name, value in sent.items()]}
