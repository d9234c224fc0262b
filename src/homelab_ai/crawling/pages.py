"""What a page is on its way through this room."""

from dataclasses import dataclass, field


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
