"""`homelab-ai doctor --egress`: whether the running service fetches pages that it must not.

It is asked for each page of `forbidden`, over plain HTTP and with its browser. It has to refuse them, and nobody may
come to the doctor's `listeners` meanwhile: its own word is not enough. What the operator has opened may be reached.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.doctor.attempts import Attempt, NothingSaidError, Outcome, judged, opener, outcome_of, way
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.cli.doctor.forbidden import LOOPBACK, Forbidden, Surroundings, everything, gateways, host_of
from homelab_ai.cli.doctor.listeners import Listeners
from homelab_ai.crawling.browser import CANNOT_RENDER
from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.policy import own_addresses
from homelab_ai.crawling.passage import SWITCHED_OFF
from homelab_ai.settings import Settings

_CONTROL = "https://example.com/"
_PATIENCE_MS = 5000
"""For a page that is not refused."""
_LONGEST_PAUSE_SECONDS = 60
"""For which a rate limit, or the pages of others, are waited for."""


class Service(Protocol):
    """The running service."""

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a POST. Raises `ServiceUnavailableError`."""
        ...


@dataclass(frozen=True)
class Examination:
    """All that was asked of one service, and what is to be said of it."""

    attempts: list[Attempt]
    findings: list[Finding]


def examine(
    service: Service,
    url: str,
    settings: Settings,
    *,
    key: str,
    online: bool,
    tell: Callable[[str], None],
) -> Examination:
    """Ask the service at `url` for everything that is forbidden.

    `settings` say what its operator has opened, and `key` for whom. `online`: also for names that only the internet
    knows, and for a page of it, which has to come. `tell` is called with what is asked for next.

    Raises `ServiceUnavailableError` when it does not answer, or says nothing of pages.
    """
    own = sorted(
        (each for each in own_addresses() if not each.is_loopback and not each.is_link_local),
        key=lambda address: (address.version, address),
    )
    here = is_here(url, own)
    port = urlsplit(url).port or (443 if urlsplit(url).scheme == "https" else 80)
    with Listeners([*(LOOPBACK if here else ()), *own], settings.crawl.allow_ports) as listeners:
        around = Surroundings(
            service=[f"{host}:{port}" for host in ("localhost", *map(host_of, (*LOOPBACK, *(own if here else ()))))],
            own=own,
            own_of_the_service=here,
            gateways=gateways(),
            ports=listeners.ports,
            online=online,
        )
        asking = _Asking(service, settings, key, listeners, tell)
        attempts = asking.about(everything(around))
        control = [*asking.control()] if online and not asking.switched_off else []
        findings = [*judged(attempts), *asking.left_out, *control, _watched(listeners.ports)]
    return Examination(attempts, asking.switched_off or findings)


def is_here(url: str, own: Iterable[Address]) -> bool:
    """Tell whether the service at this address is on this machine, or in a container of it."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
    except OSError:  # then it does not answer either
        return False
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    return any(address.is_loopback or address in {*own} for address in addresses)


@dataclass
class _Asking:
    """Who asks, and what could not be asked."""

    service: Service
    settings: Settings
    key: str
    listeners: Listeners
    tell: Callable[[str], None]
    left_out: list[Finding] = field(default_factory=list)
    """Why one of the two ways was not tried."""
    switched_off: list[Finding] = field(default_factory=list)
    """That no page is read at all."""

    def about(self, pages: Iterable[Forbidden]) -> list[Attempt]:
        """Ask for each page, in both ways as long as there are two. Raises `ServiceUnavailableError`."""
        asked = (self._attempt(page, browser=browser) for page in pages for browser in self._ways())
        return [attempt for attempt in asked if attempt]

    def control(self) -> Iterator[Finding]:
        """See that the internet is let through."""
        for browser in self._ways():
            try:
                self._ask(_CONTROL, browser=browser)
            except ServiceUnavailableError as error:
                saw = f"{_CONTROL} was not read {way(browser=browser)}: {error}"
                yield Finding("the internet", "warning", saw, f"curl -I {_CONTROL}, on the machine of the service")
            else:
                yield Finding("the internet", "ok", f"{_CONTROL} was read {way(browser=browser)}")

    def _ways(self) -> Iterator[bool]:
        """Yield whether to ask with the browser, as long as something comes of it."""
        if not self.switched_off:
            yield False
        if not self.switched_off and not self.left_out:
            yield True

    def _attempt(self, page: Forbidden, *, browser: bool) -> Attempt | None:
        outcome: Outcome = "let through"
        self.listeners.came()  # before, to somebody else
        try:
            self._ask(page.url, browser=browser)
            said = "the page"
        except ServiceUnavailableError as error:
            said = str(error)
            if SWITCHED_OFF in said:
                self.switched_off.append(Finding("pages", "ok", said))
                return None
            if browser and said.startswith(CANNOT_RENDER):
                mend = "apt-get install chromium-headless-shell, on the machine of the service"
                self.left_out.append(Finding("pages", "warning", f"{said}. Only plain HTTP was tried", mend))
                return None
            try:
                outcome = outcome_of(error, page)
            except NothingSaidError:
                raise error from None
        came_to = tuple(sorted(map(str, self.listeners.came())))
        if came_to:
            outcome = "let through"
        opened_by = opener(page, self.settings, self.key) if outcome == "let through" else ""
        return Attempt(page, browser, "opened" if opened_by else outcome, said, came_to, opened_by)

    def _ask(self, url: str, *, browser: bool) -> None:
        """Return when the page has come. Raises `ServiceUnavailableError`."""
        self.tell(url)
        wish = {"url": url, "wait_for_js": browser, "timeout_ms": _PATIENCE_MS}
        while True:
            try:
                self.service.post("/api/crawl", wish)
            except ServiceUnavailableError as error:
                pause = error.retry_after_seconds
                if pause is None or pause > _LONGEST_PAUSE_SECONDS:
                    raise
                time.sleep(pause)
            else:
                return


def _watched(ports: Mapping[Address, int]) -> Finding:
    if not ports:
        saw = "No port of crawl.allow_ports is free here, so the service was taken at its word"
    else:
        places = ", ".join(f"{host_of(address)}:{port}" for address, port in ports.items())
        saw = f"who would have come to {places} was watched"
    return Finding("listeners", "ok", saw)
