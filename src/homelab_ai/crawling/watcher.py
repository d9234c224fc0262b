"""What this room tells whoever counts (`telemetry.metrics`)."""

from typing import Literal, Protocol


class Watcher(Protocol):
    """Who counts pages."""

    def crawled(self, way: Literal["http", "browser"], outcome: Literal["complete", "incomplete"]) -> None:
        """A page was read."""
        ...

    def crawl_failed(self, code: str) -> None:
        """A page was not read, with this error."""
        ...

    def crawl_blocked(self, count: int) -> None:
        """The guard has refused so many requests of one page."""
        ...
