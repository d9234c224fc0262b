"""Where in a page a block stands: what it inherits from the elements around it."""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from lxml.html import HtmlElement

from homelab_ai.crawling.extraction import names

INLINE = frozenset(
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
PLACES = (
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
)
"""The elements that say what stands in them. A feature each."""
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
HEADINGS = {f"h{level}": level for level in range(1, 7)}
"""How high each stands."""
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language|lang|highlight-source|brush:?\s?|highlight)-?([A-Za-z0-9+#]{1,15})(?=\s|$)"
)
_WHOLE = frozenset({"html", "body"})


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands: what it inherits from the elements around it."""

    path: tuple[Node, ...] = ()
    inside: frozenset[str] = frozenset()
    """Elements, or their roles, and `hidden`, `itemprop`."""
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
    def near(self) -> frozenset[str]:
        """Groups of the names of the last three elements."""
        return frozenset().union(*(node.groups for node in self.path[-3:]))

    @property
    def shape(self) -> tuple[tuple[str, str], ...]:
        """What blocks have in common that look alike: the last three elements, and their names."""
        return tuple((node.tag, node.names) for node in self.path[-3:])


def inside(element: HtmlElement, around: Place, key: int) -> Place:
    """What stands in `element`, which is the page's `key`th, inherits this."""
    tag = element.tag
    found = _kinds(element)
    kinds = around.inside if found <= around.inside else around.inside | found
    if tag in INLINE:
        return around if kinds is around.inside else replace(around, inside=kinds)
    called = f"{element.get('class') or ''} {element.get('id') or ''}".strip()
    of_name = frozenset() if tag in _WHOLE else names.groups(called)
    path = (*around.path, Node(tag, called, key, of_name))
    lists, item, cell, code = around.lists, around.item, around.cell, around.code
    if tag in {"ul", "ol"}:
        lists = (*lists, "1." if tag == "ol" else "-")
    elif tag == "li":
        lists, item = lists or ("-",), key
    elif tag == "table":
        lists, item, cell = (), 0, Cell(key, 0, 0)
    elif tag == "tr" and cell:
        cell = cell._replace(row=key)
    elif tag in {"td", "th"} and cell:
        cell = cell._replace(cell=key)
    elif tag == "pre":
        code = _code_language(element)
    return Place(
        path=path,
        inside=kinds,
        heading=HEADINGS.get(tag, around.heading),
        lists=lists,
        item=item,
        quotes=around.quotes + (tag == "blockquote"),
        cell=cell,
        code=code,
    )


def _kinds(element: HtmlElement) -> set[str]:
    found = {element.tag} if element.tag in PLACES else set()
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
