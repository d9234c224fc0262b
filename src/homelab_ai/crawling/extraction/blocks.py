"""A page as a row of blocks: pieces of text that a reader sees as one paragraph, heading, item or cell.

Each block carries what it looks like in plain text and in Markdown, and where in the page it stands. Which of them are
the main content is decided elsewhere; nothing is lost here but what no reader sees.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

from lxml import html as lxml_html
from lxml.html import HtmlElement

from homelab_ai.crawling.extraction.places import INLINE, Place, inside

MOST = 20_000
"""Blocks of a page that are looked at."""
WORD = re.compile(r"\w+")

_UNSEEN = frozenset(
    [
        "script",
        "style",
        "template",
        "svg",
        "iframe",
        "select",
        "option",
        "input",
        "textarea",
        "canvas",
        "object",
        "embed",
        "head",
        "link",
        "meta",
        "audio",
        "video",
        "map",
        "datalist",
        "progress",
        "meter",
        "math",
    ]
)
_OF_A_HEAD = frozenset(
    ["base", "basefont", "bgsound", "link", "meta", "noframes", "noscript", "script", "style", "template", "title"]
)
"""What does not end it (https://html.spec.whatwg.org/#parsing-main-inhead)."""
_MARKS = {"b": "**", "strong": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`", "tt": "`"}
_OPENED = "\0"
"""Before a mark that is not closed yet. No page holds it: `parsed` takes it out."""
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")
_EMPTY = re.compile(r"(?<!!)\[\s*\]\([^()]*\)|\*\*\s*\*\*|``")


@dataclass(eq=False)
class Block:
    """One piece of text."""

    text: str
    markdown: str
    place: Place
    link: float
    """Share of its characters that are links."""
    words: list[str] = field(default_factory=list)


def parsed(text: str) -> HtmlElement | None:
    """Return the root of the page, or None when there is nothing in it."""
    # Without `huge_tree` what is nested in more than 256 elements is lost, and a forgotten </b> nests the whole page.
    parser = lxml_html.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True, encoding="utf-8")
    try:
        # What a file may hold and XML may not (a NUL above all) would end the page there.
        root = lxml_html.document_fromstring(text.replace("\0", "").encode("utf-8", "replace"), parser=parser)
    except (ValueError, lxml_html.etree.LxmlError):
        return None
    _end_head(root)
    return root


def _end_head(root: HtmlElement) -> None:
    """Have the body begin where it begins for browsers: before a `<main>`, too, which the parser does not know."""
    head = root.find("head")
    strays = [] if head is None else list(itertools.dropwhile(lambda element: element.tag in _OF_A_HEAD, head))
    if strays:
        body = root.find("body")
        if body is None:
            body = lxml_html.etree.SubElement(root, "body")
        body[:0] = strays


def blocks(root: HtmlElement, url: str) -> list[Block]:
    """Return the first blocks of a page in their order."""
    return list(itertools.islice(_Walk(url).of(root), MOST))


class _Walk:
    def __init__(self, url: str) -> None:
        self._url = url
        self._text: list[str] = []
        self._markdown: list[str] = []
        self._linked = 0
        self._href: str | None = None

    def of(self, root: HtmlElement) -> Iterator[Block]:
        """Depth first, with a stack of its own: pages may be nested deeper than Python calls."""
        self._url = base_of(root, self._url)
        stack: list[tuple[HtmlElement, Place, Place | None]] = [(root, Place(), None)]
        count = 0
        while stack:
            element, around, place = stack.pop()
            if place:
                yield from self._leave(element, around, place)
                continue
            if not isinstance(element.tag, str) or element.tag in _UNSEEN:
                self._add(element.tail, around)
                continue
            count += 1
            place = inside(element, around, count)
            stack.append((element, around, place))
            if element.tag not in INLINE and element.tag != "br":
                yield from self._flush(around)
            self._open(element, place)
            self._add(element.text, place)
            stack += [(child, place, None) for child in reversed(element)]

    def _open(self, element: HtmlElement, place: Place) -> None:
        tag = element.tag
        if tag == "br":
            self._put("\n")
        elif place.code is not None:
            return
        elif tag == "img":
            source = absolute(element.get("src") or element.get("data-src") or "", self._url)
            if source:
                self._markdown.append(f"![{' '.join((element.get('alt') or '').split())}]({source})")
        elif tag == "a":
            self._href = absolute(element.get("href") or "", self._url)
            if self._href:
                self._markdown.append("[")
        elif tag in _MARKS:
            self._markdown.append(_OPENED + _MARKS[tag])

    def _leave(self, element: HtmlElement, around: Place, place: Place) -> Iterator[Block]:
        tag = element.tag
        if tag not in INLINE and tag != "br":
            yield from self._flush(place)
        elif around.code is None and tag == "a":
            if self._href:
                self._markdown.append(f"]({self._href})")
            self._href = None
        elif around.code is None and tag in _MARKS:
            self._close(_MARKS[tag])
        self._add(element.tail, around)

    def _close(self, mark: str) -> None:
        """Put both marks beside the words: Markdown knows none with a space within."""
        pieces = self._markdown
        start = next((place for place in range(len(pieces) - 1, -1, -1) if pieces[place] == _OPENED + mark), None)
        if start is not None:  # else a block has begun within
            inner = "".join(pieces[start + 1 :]).replace(_OPENED, "")
            words = inner.strip()
            if words:
                before, after = inner.split(words, 1)
                inner = f"{before}{mark}{words}{mark}{after}"
            pieces[start:] = [inner]

    def _add(self, text: str | None, place: Place) -> None:
        if text:
            self._put(text if place.code is not None else text.replace("\n", " "))

    def _put(self, text: str) -> None:
        self._text.append(text)
        self._markdown.append(text)
        if self._href is not None:
            self._linked += len(text.strip())

    def _flush(self, place: Place) -> Iterator[Block]:
        open_link = self._href and not place.code
        if self._said():
            raw = "".join(self._text)
            marked = "".join(piece for piece in self._markdown if not piece.startswith(_OPENED))
            if open_link:
                marked += f"]({self._href})"
            text = raw.strip("\n") if place.code is not None else _tidy(raw)
            words = [word.lower() for word in WORD.findall(text)]
            if words:
                markdown = text if place.code is not None else _tidy(marked)
                yield Block(text, _mended(markdown), place, min(1.0, self._linked / len(text)), words)
            elif place.code is None and "![" in marked:
                yield Block("", _mended(_tidy(marked)), place, 1.0, [])
        self._text, self._markdown, self._linked = [], ["["] if open_link else [], 0

    def _said(self) -> bool:
        """Whether there is anything since the last block. Most elements hold nothing but other elements."""
        return any(not piece.isspace() for piece in self._text) or any("![" in piece for piece in self._markdown)


def base_of(root: HtmlElement, url: str) -> str:
    """What the addresses in a page are relative to."""
    base = root.find(".//base[@href]")
    return url if base is None else absolute(base.get("href", ""), url) or url


def absolute(address: str, base: str) -> str | None:
    """An address of the web, or None where it is something else."""
    try:
        absolute = urljoin(base, address.strip())
    except ValueError:
        return None
    if not address.strip() or not absolute.lower().startswith(("http://", "https://")):
        return None
    return absolute.replace(" ", "%20").replace(")", "%29").replace("(", "%28").replace("\n", "")


def _tidy(text: str) -> str:
    """Spaces as a browser shows them, line breaks kept."""
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def _mended(markdown: str) -> str:
    """Without marks around nothing, which is what icons leave behind."""
    return _EMPTY.sub("", markdown).strip()
