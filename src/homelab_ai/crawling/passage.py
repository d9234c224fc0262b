"""What is asked before a page is fetched, and what the guard has said of it since, as errors for the caller."""

from collections.abc import Awaitable, Callable

from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.opening import remedy
from homelab_ai.errors import CrawlBlocked, CrawlFailed

MayGo = Callable[[str], Awaitable[None]]
"""Asked before the page itself is fetched, and before each one that it leads to; raises where that may not be."""

SWITCHED_OFF = "crawl.enabled is false"
"""The reason for which nothing is fetched at all."""


class Watch:
    """What the guard says of one passage from now on. `what` is what is fetched by it."""

    def __init__(self, passage: Passage, what: str = "page") -> None:
        self._passage = passage
        self._what = what
        self._blocked, self._failures = len(passage.blocked), len(passage.failures)

    def refusal(self) -> CrawlBlocked | None:
        """What to tell the caller when the guard has refused something meanwhile."""
        new = self._passage.blocked[self._blocked :]
        return blocked(new[-1][1], self._what) if new else None

    def failure(self) -> CrawlFailed | None:
        """What to tell the caller when something has come to nothing meanwhile."""
        new = self._passage.failures[self._failures :]
        return failed(new[-1][1], self._what) if new else None


def blocked(reason: str, what: str = "page") -> CrawlBlocked:
    """The guard does not let it through."""
    return CrawlBlocked(f"The {what} may not be fetched: {reason}{remedy(reason)}", details={"reason": reason})


def failed(reason: str, what: str = "page") -> CrawlFailed:
    """Nothing came of it."""
    return CrawlFailed(f"The {what} could not be fetched: {reason}")
