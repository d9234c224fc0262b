"""One page that the service was asked for, and what is to be thought of its answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from homelab_ai.api.keys import hash_key
from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.cli.doctor.forbidden import Forbidden
from homelab_ai.settings import Settings

Outcome = Literal["refused", "not found", "opened", "let through"]

_OF_PAGES_LET_THROUGH = frozenset({"CRAWL_FAILED", "MODEL_LOAD_FAILED", "TIMEOUT", "UNSUPPORTED_MEDIA_TYPE"})
"""Codes with which the service gives up a page that it has gone out for."""
_NOT_FOUND = "its name has not been found"
_MEND = (
    "crawl: {enabled: false}, until you know what lets it through: crawl.allow_networks, crawl.allow_hosts, "
    "crawl_allow_networks of the key, or a fault of the guard, to be reported"
)


class NothingSaidError(Exception):
    """The answer says nothing of the page."""


@dataclass(frozen=True)
class Attempt:
    """A page, the way in which it was asked for, and what came of it."""

    page: Forbidden
    browser: bool
    """Or over plain HTTP."""
    outcome: Outcome
    said: str
    """What the service has answered."""
    came_to: tuple[str, ...] = ()
    """Listeners to which somebody came meanwhile."""
    opened_by: str = ""
    """The setting by which the operator lets the page through."""

    def as_json(self) -> dict[str, Any]:
        """All that a program may want to know of it."""
        return {
            "subject": self.page.subject,
            "url": self.page.url,
            "wait_for_js": self.browser,
            "outcome": self.outcome,
            "said": self.said,
            "came_to": self.came_to,
            "opened_by": self.opened_by,
        }


def outcome_of(error: ServiceUnavailableError, page: Forbidden) -> Outcome:
    """Return what became of a page that was not sent. Raises `NothingSaidError`."""
    said = str(error)
    if error.code == "CRAWL_BLOCKED" or (error.code == "INVALID_REQUEST" and said.startswith("url")):
        return "refused"
    if error.code not in _OF_PAGES_LET_THROUGH:
        raise NothingSaidError
    return "not found" if page.host and _NOT_FOUND in said else "let through"


def opener(page: Forbidden, settings: Settings, key: str) -> str:
    """Return the setting by which the operator has opened the page to whoever has this key; empty if there is none."""
    if page.never_opened:
        return ""
    own = [entry for entry in settings.security.api_keys if entry.key_hash == hash_key(key.encode())]
    networks = [
        *(("crawl.allow_networks", network) for network in settings.crawl.allow_networks),
        *(
            (f"crawl_allow_networks of {entry.name}", network)
            for entry in own
            for network in entry.crawl_allow_networks
        ),
    ]
    for setting, network in networks:
        if page.address and page.address in network and (network.num_addresses == 1 or not page.of_the_service):
            return f"{setting}: {network}"
    for host in settings.crawl.allow_hosts:
        name = host.lower()
        if name in {page.host, str(page.address)} or (name.startswith(".") and page.host.endswith(name)):
            return f"crawl.allow_hosts: {host}"
    return ""


def judged(attempts: Sequence[Attempt]) -> Iterator[Finding]:
    """Yield what is to be said of each subject, and of each page by itself that should not have been let through."""
    for subject, group in groupby(attempts, lambda attempt: attempt.page.subject):
        of_subject = [*group]
        yield from _refused(subject, of_subject)
        yield from _opened(subject, [attempt for attempt in of_subject if attempt.outcome == "opened"])
        yield from _let_through(subject, [attempt for attempt in of_subject if attempt.outcome == "let through"])


def way(*, browser: bool) -> str:
    """How a page was asked for, in words."""
    return "in the browser" if browser else "over plain HTTP"


def _refused(subject: str, attempts: Sequence[Attempt]) -> Iterator[Finding]:
    if refused := [attempt for attempt in attempts if attempt.outcome in {"refused", "not found"}]:
        ways = " and ".join(way(browser=browser) for browser in sorted({attempt.browser for attempt in refused}))
        saw = f"refused: {len(_urls(refused))} of {len(_urls(attempts))} addresses, {ways}"
        if lost := _urls(attempt for attempt in refused if attempt.outcome == "not found"):
            saw += f"; the service finds no {', '.join(lost)}"
        yield Finding(subject, "ok", saw)


def _opened(subject: str, attempts: Sequence[Attempt]) -> Iterator[Finding]:
    for setting in dict.fromkeys(attempt.opened_by for attempt in attempts):
        urls = _urls(attempt for attempt in attempts if attempt.opened_by == setting)
        yield Finding(subject, "ok", f"let through, as the configuration says ({setting}): {', '.join(urls)}")


def _let_through(subject: str, attempts: Sequence[Attempt]) -> Iterator[Finding]:
    for attempt in attempts:
        saw = f"{attempt.page.url} was not refused {way(browser=attempt.browser)}; the answer: {attempt.said}"
        if attempt.came_to:
            saw += f"; somebody connected to {', '.join(attempt.came_to)} meanwhile"
        yield Finding(subject, "problem", saw, _MEND)


def _urls(attempts: Iterable[Attempt]) -> list[str]:
    return [*dict.fromkeys(attempt.page.url for attempt in attempts)]
