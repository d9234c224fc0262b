"""The main content of whatever an address has answered with.

A page goes down a ladder, and the first rung that holds answers (`Extracted.strategy`):

1. `blocks`: the blocks that the scorer takes for the main content. What trafilatura takes is one of its figures.
2. `structured_data`: the text in JSON-LD, of pages that scripts fill and that hold hardly any text themselves.
3. `description`: what the page says of itself in its head.
4. `empty`: there is nothing.
"""

import itertools
from collections.abc import Iterable
from copy import deepcopy

from lxml.html import HtmlElement
from trafilatura import bare_extraction

from homelab_ai.crawling.extraction import metadata, other_kinds, scorer
from homelab_ai.crawling.extraction.blocks import MOST, WORD, Block, absolute, base_of, blocks, parsed
from homelab_ai.crawling.extraction.charset import decoded
from homelab_ai.crawling.extraction.extracted import Extracted, NotReadable
from homelab_ai.crawling.extraction.features import features
from homelab_ai.crawling.extraction.rendering import markdown_of, text_of

_HARDLY_ANY = 25
"""Words."""
_LONGEST_FOR_TRAFILATURA = 2_000_000
"""Characters of HTML. It takes 100 ms for each million, and its longest steps are not linear."""
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
        return from_html(text, url)
    return other_kinds.from_plain_text(text)


def from_html(text: str, url: str) -> Extracted:
    """Return the main content of a web page."""
    root = parsed(text)
    if root is None:
        return Extracted("", "", "", [], {}, None, "empty")
    page = blocks(root, url)
    notes = [f"has more paragraphs than the {MOST} that were read"] if len(page) == MOST else []
    chosen, strategy = _chosen(page, root, text), "blocks"
    plain, marked = text_of(chosen), markdown_of(chosen)
    about = metadata.metadata_of(root, url)
    if len(WORD.findall(plain)) < _HARDLY_ANY:
        plain, marked, strategy = _instead(plain, marked, strategy, root, about)
    return Extracted(
        title=metadata.title_of(root),
        text=plain,
        markdown=marked,
        links=_links(root, url),
        metadata=about,
        language=metadata.language_of(root),
        strategy=strategy,
        notes=notes,
    )


def _chosen(page: list[Block], root: HtmlElement, text: str) -> list[Block]:
    readable = [block for block in page if block.words]
    taken = by_trafilatura(readable, root) if len(text) <= _LONGEST_FOR_TRAFILATURA else [0.0] * len(readable)
    sizes = [len(block.words) for block in readable]
    likely = [scorer.probability(figures) for figures in features(readable, taken)]
    return _with_pictures(page, readable, scorer.best_choice(scorer.in_company(readable, likely), sizes))


def _with_pictures(page: list[Block], readable: list[Block], choice: Iterable[bool]) -> list[Block]:
    """The chosen blocks, and the pictures that stand between two of them."""
    chosen = {id(block) for block, take in zip(readable, choice, strict=True) if take}
    around = [block for block in page if block.words]
    after = {id(one): id(two) for one, two in itertools.pairwise(around)}
    result, last = [], None
    for block in page:
        if block.words:
            last = id(block)
            if last in chosen:
                result.append(block)
        elif last in chosen and after.get(last) in chosen:
            result.append(block)
    return result


def by_trafilatura(readable: list[Block], root: HtmlElement) -> list[float]:
    """Return the share of each block that trafilatura takes for the main content."""
    try:
        found = bare_extraction(deepcopy(root), include_comments=False, with_metadata=False)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a page makes it raise: it is one opinion of two
        return [0.0] * len(readable)
    words = [word.lower() for word in WORD.findall(getattr(found, "text", None) or "")]
    threes = set(zip(words, words[1:], words[2:], strict=False))
    twos, ones = set(itertools.pairwise(words)), set(words)
    return [_share(block.words, threes, twos, ones) for block in readable]


def _share(words: list[str], threes: set[tuple[str, str, str]], twos: set[tuple[str, str]], ones: set[str]) -> float:
    if len(words) == 1:
        return float(words[0] in ones)
    if len(words) == 2:  # noqa: PLR2004 - pairs
        return float((words[0], words[1]) in twos)
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return sum(run in threes for run in runs) / len(runs)


def _instead(plain: str, marked: str, strategy: str, root: HtmlElement, about: dict[str, str]) -> tuple[str, str, str]:
    """For a page that holds hardly any text, what else it says."""
    body = metadata.body_in(root)
    if len(body) > len(plain):
        return body, body.replace("\n", "\n\n"), "structured_data"
    if not plain:
        description = about.get("description", "")
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
