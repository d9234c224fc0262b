"""What a page is on its way through this room."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Fetched:
    """What a server has answered, or a browser made of it."""

    url: str
    """Of the page itself, after redirects."""
    status: int
    content_type: str
    """Media type with parameters, as the server said it; of rendered pages `text/html; charset=utf-8`."""
    body: bytes
    complete: bool = True
    """False where the deadline or the limit of bytes came first: what there was until then."""
    title: str | None = None
    """As a browser shows it."""
    screenshot: bytes | None = None
    """PNG."""
    notes: tuple[str, ...] = field(default=())
    """What the caller should know, each the end of a sentence."""


@dataclass(frozen=True)
class Rendered:
    """A page as the browser has it: facts, and the two things that are large."""

    facts: dict[str, Any]
    """Its `url`, `status`, `title`, whether it is `complete`, and `notes`."""
    html: bytes
    screenshot: bytes
    """PNG; empty where none was wished."""


Kind = Literal["timeout", "crashed", "failed", "net", "led away", "blocked", "selector", "download", "disturbed"]


class RenderFailed(Exception):
    """The browser is there, but the page is not. The text is what else there is to know: a code, a reason."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
