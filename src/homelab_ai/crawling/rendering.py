"""Which pages need a browser: those that say little before their scripts have run."""

import re

from homelab_ai.crawling.pages import Fetched

_ENOUGH_WORDS = 120
"""Text from which on a page has said what it is for, scripts or not."""
_HARDLY_ANY_WORDS = 25
_READ_BYTES = 500_000
"""Of a page, by which it is judged."""
_REFRESHES_SECONDS = 10

# Strangers write what these read: none may go over the same text again and again.
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_UNSEEN = re.compile(
    r"<(script|style|template|svg|noscript|head|textarea|iframe)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
_SCRIPT = re.compile(
    r"<script\b(?![^<>]{0,500}\btype\s*=\s*[\"']?(?:application/(?:ld\+)?json|text/template))", re.IGNORECASE
)
_NOSCRIPT = re.compile(r"<noscript\b[^<>]{0,500}>(.*?)(?:</noscript\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_ASKS_FOR_SCRIPTS = re.compile(r"java\s?script", re.IGNORECASE)
_EMPTY_ROOT = re.compile(
    r"<(div|main|section)\b[^<>]{0,500}?\bid\s*=\s*[\"']?"
    r"(?:root|app|app-root|__next|__nuxt|___gatsby|svelte|react-root|application|q-app)"
    r"[\"']?(?:\s[^<>]{0,500})?>\s*</\1\s*>",
    re.IGNORECASE,
)
_CUSTOM_ROOT = re.compile(
    r"<body\b[^<>]{0,500}>\s*<([a-z]{1,30}-[a-z-]{1,30})\b[^<>]{0,500}>\s*</\1\s*>", re.IGNORECASE
)
_REFRESH = re.compile(
    r"<meta\b(?=[^<>]{0,500}http-equiv\s*=\s*[\"']?refresh)"
    r"[^<>]{0,500}?content\s*+=\s*+(?:[\"']\s*+)?(\d{1,9}+)[^<>]{0,500}?url\s*=",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"\w+")


def needs_browser(fetched: Fetched) -> bool:
    """Whether a browser would have more to say of this page than its server has sent."""
    if not is_html(fetched):
        return False
    html = _COMMENT.sub(" ", fetched.body[:_READ_BYTES].decode("latin-1"))  # only ASCII matters here
    refresh = _REFRESH.search(html)
    if refresh and int(refresh[1]) <= _REFRESHES_SECONDS:
        return True
    if not _SCRIPT.search(html):
        return False  # nothing would change
    words = _words(_UNSEEN.sub(" ", html))
    if words >= _ENOUGH_WORDS:
        return False
    asks = any(_ASKS_FOR_SCRIPTS.search(text) for text in _NOSCRIPT.findall(html))
    return asks or words <= _HARDLY_ANY_WORDS or bool(_EMPTY_ROOT.search(html) or _CUSTOM_ROOT.search(html))


def is_html(fetched: Fetched) -> bool:
    """Whether it is a web page rather than another kind of file."""
    kind = fetched.content_type.partition(";")[0].strip().lower()
    if kind in {"", "text/plain"}:  # some servers do not say it, or not rightly
        return fetched.body[:1000].lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
    return kind in {"text/html", "application/xhtml+xml"}


def _words(html: str) -> int:
    return len(_WORD.findall(_TAG.sub(" ", html)))
