"""A page as a row of blocks: pieces of text that a reader sees as one paragraph, heading, item or cell.

Each block carries what it looks like in plain text and in Markdown, and where in the page it stands. Which of them are
the main content is decided elsewhere; nothing is lost here but what no reader sees.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import urljoin

from lxml import html as lxml_html
from lxml.html import HtmlElement

from homelab_ai.crawling.extraction import names

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
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
        "mark",
        "nobr",
        "picture",
        "q",
        "rp",
        "rt",
        "ruby",
        "s",
        "samp",
        "small",
        "source",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
        "img",
    ]
)
_PLACES = frozenset(
    [
        "main",
        "article",
        "nav",
        "header",
        "footer",
        "aside",
        "form",
        "table",
        "li",
        "figure",
        "blockquote",
        "button",
        "section",
        "p",
        "dialog",
        "noscript",
        "pre",
        "details",
    ]
)
_ROLES = {
    "alertdialog": "dialog",
    "article": "article",
    "banner": "header",
    "complementary": "aside",
    "contentinfo": "footer",
    "dialog": "dialog",
    "form": "form",
    "main": "main",
    "menu": "nav",
    "menubar": "nav",
    "navigation": "nav",
    "search": "form",
    "tablist": "nav",
    "toolbar": "nav",
}
_MARKS = {"b": "**", "strong": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`", "tt": "`"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language|lang|highlight-source|brush:?\s?|highlight)-?([A-Za-z0-9+#]{1,15})(?=\s|$)"
)
_WHOLE = frozenset({"html", "body"})
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")
_EMPTY = re.compile(r"(?<!!)\[\s*\]\([^()]*\)|\*\*\s*\*\*|``")


class Node(NamedTuple):
    """An element on the way from the root to a block."""

    tag: str
    names: str
    """Class and id."""
    key: int
    """Which element it is."""
    groups: frozenset[str]
    """What its names say."""


class Cell(NamedTuple):
    """Where in a table a block stands."""

    table: int
    row: int
    cell: int
    heading: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands: what it inherits from the elements around it."""

    path: tuple[Node, ...] = ()
    inside: frozenset[str] = frozenset()
    """Elements, or their roles, and `hidden`, `itemprop`."""
    near: frozenset[str] = frozenset()
    """Groups of the names of the last three elements."""
    heading: int = 0
    lists: tuple[str, ...] = ()
    """Marker of the item in each list around it."""
    item: int = 0
    """Which list item it is in."""
    quotes: int = 0
    cell: Cell | None = None
    code: str | None = None
    """Language of the code that it is, if it is code: may be empty."""

    @property
    def shape(self) -> tuple[tuple[str, str], ...]:
        """What blocks have in common that look alike: the last three elements, and their names."""
        return tuple((node.tag, node.names) for node in self.path[-3:])


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
        return lxml_html.document_fromstring(text.replace("\0", "").encode("utf-8", "replace"), parser=parser)
    except (ValueError, lxml_html.etree.LxmlError):
        return None


def blocks(root: HtmlElement, url: str, most: int = MOST) -> list[Block]:
    """Return the first blocks of a page in their order."""
    return list(itertools.islice(_Walk(url).of(root), most))


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
            place = _inside(element, around, count)
            stack.append((element, around, place))
            if element.tag not in _INLINE and element.tag != "br":
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
            self._markdown.append(_MARKS[tag])

    def _leave(self, element: HtmlElement, around: Place, place: Place) -> Iterator[Block]:
        tag = element.tag
        if tag not in _INLINE and tag != "br":
            yield from self._flush(place)
        elif around.code is None and tag == "a":
            if self._href:
                self._markdown.append(f"]({self._href})")
            self._href = None
        elif around.code is None and tag in _MARKS:
            self._markdown.append(_MARKS[tag])
        self._add(element.tail, around)

    def _add(self, text: str | None, place: Place) -> None:
        if text:
            self._put(text if place.code is not None else text.replace("\n", " "))

    def _put(self, text: str) -> None:
        self._text.append(text)
        self._markdown.append(text)
        if self._href is not None:
            self._linked += len(text.strip())

    def _flush(self, place: Place) -> Iterator[Block]:
        raw, marked = "".join(self._text), "".join(self._markdown)
        open_link = self._href and not place.code
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


def _inside(element: HtmlElement, around: Place, key: int) -> Place:
    """What stands in `element`, which is the page's `key`th, inherits this."""
    tag = element.tag
    found = _kinds(element)
    inside = around.inside if found <= around.inside else around.inside | found
    if tag in _INLINE:
        return around if inside is around.inside else replace(around, inside=inside)
    called = f"{element.get('class') or ''} {element.get('id') or ''}".strip()
    of_name = frozenset() if tag in _WHOLE else names.groups(called)
    path = (*around.path, Node(tag, called, key, of_name))
    lists, item, cell, code = around.lists, around.item, around.cell, around.code
    if tag in {"ul", "ol"}:
        lists = (*lists, "1." if tag == "ol" else "-")
    elif tag == "li":
        lists, item = lists or ("-",), key
    elif tag == "table":
        lists, item, cell = (), 0, Cell(key, 0, 0, heading=False)
    elif tag == "tr" and cell:
        cell = cell._replace(row=key)
    elif tag in {"td", "th"} and cell:
        cell = cell._replace(cell=key, heading=tag == "th")
    elif tag == "pre":
        code = _code_language(element)
    return Place(
        path=path,
        inside=inside,
        near=frozenset().union(*(node.groups for node in path[-3:])),
        heading=_HEADINGS.get(tag, around.heading),
        lists=lists,
        item=item,
        quotes=around.quotes + (tag == "blockquote"),
        cell=cell,
        code=code,
    )


def _kinds(element: HtmlElement) -> set[str]:
    found = {element.tag} if element.tag in _PLACES else set()
    if not element.attrib:
        return found
    role = _ROLES.get((element.get("role") or "").strip().lower())
    if role:
        found.add(role)
    style = element.get("style")
    if (
        element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or (style and "display:none" in style.replace(" ", "").lower())
    ):
        found.add("hidden")
    if element.get("itemprop"):
        found.add("itemprop")
    return found


def _code_language(element: HtmlElement) -> str:
    """By the class names that highlighters use, of the element, what is in it or what is around it."""
    parent = element.getparent()
    for candidate in (element, element.find("code"), parent, parent.getparent() if parent is not None else None):
        if candidate is not None:
            match = _LANGUAGE.search(candidate.get("class") or "")
            if match:
                return match[1].lower()
    return ""


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
