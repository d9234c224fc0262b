"""What is made of a page."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Extracted:
    """The main content of a page, and what it says of itself."""

    title: str
    text: str
    markdown: str
    links: list[tuple[str, str]]
    """Address and text of each link of the page, http and https only, in their order, each address once."""
    metadata: dict[str, Any]
    """Those that are known of `author`, `date`, `description`, `image`, `site_name`, `canonical_url` and `page_type`;
    of a PDF `pages`, too."""
    language: str | None
    """As the page says, in lower case: `en`, `pt-br`."""
    strategy: str
    """What has answered: `blocks`, `structured_data`, `description`, `empty`; of files of other kinds
    `plain_text`, `json`, `xml`, `feed`, `pdf`."""
    html: str | None = None
    """All of it, if it is a web page."""
    notes: list[str] = field(default_factory=list)
    """What the caller should know, each the end of a sentence."""


class NotReadable(Exception):
    """No text can be made of it. The text is the end of a sentence that begins with "The page"."""


class ExtractionFailed(Exception):
    """The page ends or outlasts what reads it. The text is the end of a sentence that begins with "The page"."""
