"""What fetching needs of the guard: a forward proxy on loopback, with credentials of its own for each crawl."""

from collections.abc import Sequence
from typing import Protocol

from homelab_ai.errors import CrawlBlocked


class Passage(Protocol):
    """One crawl's way out."""

    @property
    def proxy_url(self) -> str:
        """`http://127.0.0.1:PORT`, without the credentials."""
        ...

    @property
    def username(self) -> str:
        """Of this crawl alone."""
        ...

    @property
    def password(self) -> str:
        """Of this crawl alone."""
        ...

    @property
    def blocked(self) -> Sequence[tuple[str, str]]:
        """What the guard has refused so far: the address, and why."""
        ...


BLOCKED_HEADER = "X-Homelab-Blocked"
"""With status 403, by which the guard says that it was the guard, and why."""

FAILED_HEADER = "X-Homelab-Failed"
"""With a status of 5xx, by which the guard says that it could not reach the server, and why."""


def refusal(passage: Passage, seen: int, reason: str = "") -> CrawlBlocked:
    """Say why the guard did not let the page through. `seen` is how many refusals there were before."""
    if not reason and len(passage.blocked) > seen:
        reason = passage.blocked[-1][1]
    reason = reason or "the address is not allowed"
    return CrawlBlocked(f"The page may not be fetched: {reason}", details={"reason": reason})
