"""What a page says of itself: its head, Open Graph and JSON-LD (https://schema.org)."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urljoin

import orjson
from lxml.html import HtmlElement

_MOST = 500_000
"""Characters of one JSON-LD block."""
_DEEPEST = 8
_NAMES = {
    "author": ("author", "article:author", "dc.creator", "citation_author"),
    "date": ("article:published_time", "datepublished", "date", "dc.date", "citation_publication_date"),
    "description": ("og:description", "description", "twitter:description", "dc.description"),
    "image": ("og:image", "og:image:url", "twitter:image"),
    "site_name": ("og:site_name", "application-name"),
    "page_type": ("og:type",),
}
_LONGEST = 2000
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE)
_BODIES = ("articleBody", "text", "reviewBody", "description")
_TAG = re.compile(r"<[^<>]{0,500}>")


def title_of(root: HtmlElement) -> str:
    """What a browser shows, else what is shared, else the first heading."""
    for path in ("//head//title", "//title[not(ancestor::svg)]", '//meta[@property="og:title"]/@content', "//h1"):
        for found in root.xpath(path)[:1]:
            text = _plain(found if isinstance(found, str) else found.text_content())
            if text:
                return text[:_LONGEST]
    return ""


def language_of(root: HtmlElement) -> str | None:
    """By the page's own word."""
    found = root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
    for said in (found, *root.xpath('//meta[translate(@http-equiv,"CL","cl")="content-language"]/@content')[:1]):
        match = _LANGUAGE.fullmatch(said.strip().replace("_", "-"))
        if match:
            return match[0].lower()
    return None


def metadata_of(root: HtmlElement, url: str, items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return what is known of `Extracted.metadata`. `items` are the objects of its JSON-LD."""
    said: dict[str, str] = {}
    for element in root.iterfind(".//meta[@content]"):
        name = (element.get("property") or element.get("name") or element.get("itemprop") or "").strip().lower()
        text = _plain(element.get("content", ""))
        if name and text:
            said.setdefault(name, text[:_LONGEST])
    found: dict[str, Any] = {}
    for key, names in _NAMES.items():
        value = next((said[name] for name in names if name in said), None)
        if value:
            found[key] = value
    for item in items:
        for key, value in _of_item(item):
            found.setdefault(key, value)
    if "image" in found:
        found["image"] = _address(found["image"], url)
    for canonical in root.xpath('//link[translate(@rel,"CANOIL","canoil")="canonical"]/@href')[:1]:
        found["canonical_url"] = _address(canonical.strip(), url)
    return {key: value for key, value in found.items() if value}


def structured(root: HtmlElement) -> Iterator[dict[str, Any]]:
    """Yield each object of the page's JSON-LD."""
    for text in root.xpath('//script[@type="application/ld+json"]/text()')[:20]:
        if len(text) <= _MOST:
            try:
                yield from _objects(orjson.loads(str(text)), 0)  # orjson takes no subclass
            except orjson.JSONDecodeError:
                continue


def body_in(items: Iterable[dict[str, Any]]) -> str:
    """Return the longest text that JSON-LD holds: of an article, a posting or a product, with the answers to it."""
    texts = []
    for item in items:
        for key in _BODIES:
            value = item.get(key)
            if isinstance(value, str):
                texts.append(_plain(_TAG.sub(" ", value)))
                break
    return "\n".join(dict.fromkeys(text for text in texts if len(text) > 100))  # noqa: PLR2004 - a short one says little


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value[:1000]:
            yield from _objects(item, depth + 1)
    elif isinstance(value, dict):
        if "@type" in value:
            yield value
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from _objects(inner, depth + 1)


def _of_item(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    author = item.get("author")
    author = author[0] if isinstance(author, list) and author else author
    name = author.get("name") if isinstance(author, dict) else author
    if isinstance(name, str) and name.strip():
        yield "author", _plain(name)[:_LONGEST]
    for key in ("datePublished", "dateCreated", "uploadDate"):
        if isinstance(item.get(key), str):
            yield "date", _plain(item[key])[:_LONGEST]


def _address(address: str, base: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:
        return ""


def _plain(text: str) -> str:
    return " ".join(text.split())
