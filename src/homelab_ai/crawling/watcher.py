"""What this room tells whoever counts (`telemetry.metrics`)."""

from typing import Literal, Protocol

Way = Literal["http", "browser", "image"]
"""A page over plain HTTP, one that a browser has shown, or an image."""


class Watcher(Protocol):
    """Who counts pages and images."""

    def crawled(self, way: Way, outcome: Literal["complete", "incomplete"]) -> None:
        """A page was read, or an image fetched."""
        ...

    def crawl_failed(self, code: str) -> None:
        """A page or an image was not, with this error."""
        ...

    def crawl_blocked(self, count: int) -> None:
        """The guard has refused so many requests of one page or image."""
        ...
