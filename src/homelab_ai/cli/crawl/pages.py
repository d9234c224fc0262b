"""What is written of a page: its content in the form that was asked for, and the name of its file."""

import hashlib
import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

ENDINGS: Final = {"text": "txt", "markdown": "md", "html": "html", "links": "links.txt", "json": "json"}
"""Of a file's name, by what is in it."""

_LONGEST_NAME = 100
"""Characters of a file's name; file systems take 255 bytes."""


def content(page: dict[str, Any], kind: str) -> str:
    """Return what is asked for of the service's answer, without a line's end."""
    match kind:
        case "json":
            return orjson.dumps(page).decode()
        case "links":
            return "\n".join(f"{link['url']}\t{' '.join(link['text'].split())}" for link in page["links"])
        case _:
            return f"{page[kind]}".rstrip("\n")


def file_name(url: str, kind: str) -> str:
    """Return a name for the page's file: `example.com_docs_intro.md`. Another address has another name."""
    parts = urlsplit(url)
    plain = re.sub(r"[^\w.-]+", "_", f"{parts.netloc}{parts.path}", flags=re.ASCII).strip("_.") or "page"
    simple = f"https://{plain.replace('_', '/')}"
    if len(plain) > _LONGEST_NAME or url.rstrip("/") != simple:
        plain = f"{plain[:_LONGEST_NAME]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    return f"{plain}.{ENDINGS[kind]}"
