"""The main content of whatever an address has answered with.

A page goes down a ladder, and the first rung that holds answers (`Extracted.strategy`):

1. `blocks`: the blocks that the scorer takes for the main content.
2. `structured_data`: the text in JSON-LD, of pages that scripts fill and that hold hardly any text themselves.
3. `description`: what the page says of itself in its head.
4. `empty`: there is nothing.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace

from lxml.html import HtmlElement

from homelab_ai.crawling.extraction import metadata, other_kinds, scorer
from homelab_ai.crawling.extraction.about import about
from homelab_ai.crawling.extraction.blocks import MOST, WORD, Block, absolute, base_of, blocks, parsed
from homelab_ai.crawling.extraction.charset import decoded
from homelab_ai.crawling.extraction.extracted import Extracted, NotReadable
from homelab_ai.crawling.extraction.rendering import markdown_of, text_of

_HARDLY_ANY = 25
"""Words."""
_MOST_LINKS = 5000
_HTML = ("text/html", "application/xhtml+xml", "")


def extract(html: bytes, url: str, content_type: str) -> Extracted:
    """Return the main content of a file that came from `url`. Raises `NotReadable`."""
    kind = content_type.split(";", 1)[0].strip().lower()
    start = html[:1024].lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if kind == "application/pdf" or start.startswith(b"%PDF-"):
        return other_kinds.from_pdf(html)
    if kind == "application/json" or kind.endswith("+json") or kind in {"text/json", "application/x-ndjson"}:
        return other_kinds.from_json(html, decoded(html, content_type))
    if kind not in _HTML and (kind.endswith(("/xml", "+xml")) or kind in {"application/rdf", "application/rss"}):
        if kind != "image/svg+xml" and (found := other_kinds.from_xml(html)):
            return found
        raise NotReadable(f"is of a type from which no text is taken ({kind})")
    if kind not in _HTML and not kind.startswith("text/"):
        raise NotReadable(f"is of a type from which no text is taken ({_shown(kind)})")
    if not kind and b"\0" in start[:512] and not html.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotReadable("does not say of which type it is, and is no text")
    text = decoded(html, content_type)
    if kind in _HTML and (kind or start[:1] == b"<"):
        return replace(from_html(text, url), html=text)
    return other_kinds.from_plain_text(text)


def from_html(text: str, url: str) -> Extracted:
    """Return the main content of a web page."""
    root = parsed(text)
    if root is None:
        return Extracted("", "", "", [], {}, None, "empty")
    page = blocks(root, url)
    notes = [f"has more paragraphs than the {MOST} that were read"] if len(page) == MOST else []
    items = list(metadata.structured(root))
    said = metadata.metadata_of(root, url, items)
    title = metadata.title_of(root)
    readable = [block for block in page if block.words]
    chosen = _with_pictures(page, readable, scorer.chosen(readable, about(url, title, said, items)))
    plain, marked, strategy = text_of(chosen), markdown_of(chosen), "blocks"
    if len(WORD.findall(plain)) < _HARDLY_ANY:
        plain, marked, strategy = _instead(plain, marked, strategy, metadata.body_in(items), said)
    return Extracted(
        title=title,
        text=plain,
        markdown=marked,
        links=_links(root, url),
        metadata=said,
        language=metadata.language_of(root),
        strategy=strategy,
        notes=notes,
    )


def _with_pictures(page: list[Block], readable: list[Block], choice: Iterable[bool]) -> list[Block]:
    """The chosen blocks, and the pictures that stand between two of them."""
    chosen = {id(block) for block, take in zip(readable, choice, strict=True) if take}
    after = {id(one): id(two) for one, two in itertools.pairwise(readable)}
    result, last = [], None
    for block in page:
        if block.words:
            last = id(block)
            if last in chosen:
                result.append(block)
        elif last in chosen and after.get(last) in chosen:
            result.append(block)
    return result


def _instead(plain: str, marked: str, strategy: str, body: str, said: dict[str, str]) -> tuple[str, str, str]:
    """For a page that holds hardly any text, what else it says."""
    if len(body) > len(plain):
        return body, body.replace("\n", "\n\n"), "structured_data"
    if not plain:
        description = said.get("description", "")
        return description, description, "description" if description else "empty"
    return plain, marked, strategy


def _links(root: HtmlElement, url: str) -> list[tuple[str, str]]:
    base = base_of(root, url)
    found: dict[str, str] = {}
    for element in root.iterfind(".//a[@href]"):
        address = absolute(element.get("href", ""), base)
        if address and len(found) < _MOST_LINKS:
            text = " ".join(element.text_content().split())[:500]
            found[address] = found.get(address) or text
    return list(found.items())


def _shown(kind: str) -> str:
    return kind if len(kind) < 100 and kind.isprintable() else "one that is unknown"  # noqa: PLR2004 - for a message
