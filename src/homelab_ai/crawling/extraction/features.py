"""What speaks for and against a block: figures about it and about where it stands, each of about the size of 1."""

import collections
import itertools
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from homelab_ai.crawling.extraction import names, patterns
from homelab_ai.crawling.extraction.about import About, share_in
from homelab_ai.crawling.extraction.blocks import Block
from homelab_ai.crawling.extraction.company import Company, Floats, is_heading
from homelab_ai.crawling.extraction.places import PLACES

Columns = dict[str, Floats]
"""Each figure, of all blocks of a page."""

_TAGS = ("p", "li", "td", "th", "div", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "figcaption", "button", "pre")
_FEW, _MANY, _VERY_MANY = 4, 20, 30
"""Words of a block: a label, a paragraph, and one that nobody writes but for readers."""
_SENTENCE = 10
_A_LINK, _HALF_A_LINK, _HARDLY_A_LINK = 0.9, 0.5, 0.3
_START = 200
"""Characters of a block that are looked at for what short blocks hold."""


def features(page: Sequence[Block], company: Company, about: About) -> Columns:
    """Return the figures of each block of a page, none of which is without words."""
    columns = _of_places(page, company) | _of_words(page, company, about) | _of_headings(page, company)
    columns |= _of_surroundings(columns, company)
    columns |= {name: np.full(len(page), value) for name, value in (about.figures | _of_page(columns, company)).items()}
    return columns


def _each(page: Sequence[Block], value: Callable[[Block], float]) -> Floats:
    return np.array([value(block) for block in page], dtype=np.float64)


def _of_places(page: Sequence[Block], company: Company) -> Columns:
    """What the elements around each block are, and are called."""
    columns = {
        f"in_{place}": _each(page, lambda block, place=place: place in block.place.inside)  # type: ignore[misc]
        for place in (*PLACES, "hidden", "itemprop")
    }
    near = [block.place.near for block in page]
    above = [frozenset().union(*(node.groups for node in parts)) for parts in company.parts]
    outermost = [parts[0].groups if parts else frozenset() for parts in company.parts]
    for group in names.GROUPS:
        columns[f"named_{group}"] = np.array([group in found for found in near], dtype=np.float64)
        columns[f"above_{group}"] = np.array([group in found for found in above], dtype=np.float64)
        columns[f"section_{group}"] = np.array([group in found for found in outermost], dtype=np.float64)
    tags = [block.place.path[-1].tag for block in page]
    for tag in _TAGS:
        columns[f"tag_{tag}"] = np.array([found == tag for found in tags], dtype=np.float64)
    columns["depth"] = _each(page, lambda block: len(block.place.path)) / 20
    columns["depth_in_section"] = np.array([len(parts) for parts in company.parts]) / 10
    columns["level"] = _each(page, lambda block: block.place.heading) / 6
    columns["quoted"] = _each(page, lambda block: block.place.quotes > 0)
    columns["lists"] = _each(page, lambda block: min(3, len(block.place.lists))) / 3
    columns["cell"] = _each(page, lambda block: block.place.cell is not None)
    return columns


def _of_words(page: Sequence[Block], company: Company, about: About) -> Columns:
    """What each block says, and how."""
    sizes = company.sizes
    link = _each(page, lambda block: block.link)
    starts = [block.text[:_START] for block in page]
    seen: set[str] = set()
    repeated = []
    for block in page:
        text = block.text.lower()
        repeated.append(text in seen)
        seen.add(text)
    in_title = _each(page, lambda block: _share(block.words, about.title))
    return {
        "length": np.log1p(sizes) / 3,
        "one": (sizes == 1) * 1.0,
        "short": (sizes < _FEW) * 1.0,
        "long": (sizes >= _MANY) * 1.0,
        "link": link,
        "all_link": (link > _A_LINK) * 1.0,
        "long_link": ((link > _HALF_A_LINK) & (sizes > _FEW)) * 1.0,
        "chrome": _found(patterns.CHROME, [block.text[: 2 * _START] for block in page]),
        "price": _found(patterns.PRICE, starts),
        "date": _found(patterns.DATE, starts),
        "rating": _found(patterns.RATING, starts),
        "sentence": _found(patterns.SENTENCE_END, [block.text[-5:] for block in page]),
        "commas": _each(page, lambda block: min(3, block.text.count(","))) / 3,
        "digits": _each(page, lambda block: sum(map(str.isdigit, block.text)) / len(block.text)),
        "small_words": _each(page, lambda block: _share(block.words, patterns.SMALL_WORDS)),
        "word_length": _each(page, lambda block: sum(map(len, block.words))) / sizes / 8,
        "capitals": _each(page, _capitals),
        "upper": _each(page, lambda block: block.text.isupper()),
        "question": _each(page, lambda block: "?" in block.text[-3:]),
        "exclamation": _each(page, lambda block: "!" in block.text),
        "key": _each(page, lambda block: block.text.find(":", 0, 30) > 0),
        "lines": np.log1p(_each(page, lambda block: block.text.count("\n"))),
        "picture": _each(page, lambda block: "![" in block.markdown),
        "bold": _each(page, lambda block: block.markdown.startswith("**")),
        "in_title": in_title,
        "is_title": in_title * (sizes >= _FEW - 1),
        "in_summary": _each(page, lambda block: share_in(block.words, about.summary)),
        "in_structured": _each(page, lambda block: share_in(block.words, about.structured)),
        "has_structured": np.full(len(page), float(bool(about.structured))),
        "repeated": np.array(repeated, dtype=np.float64),
    }


def _of_headings(page: Sequence[Block], company: Company) -> Columns:
    """Which headings each block stands under, and how far from the page's title."""
    sizes, numbers = company.sizes, np.arange(len(page))
    talk, more = [], []
    section: list[tuple[int, str]] = []
    heads = [block.place.heading if is_heading(block) else 0 for block in page]
    titles = ""
    for block, level in zip(page, heads, strict=True):
        if level:
            section = [(other, title) for other, title in section if other < level] + [(level, block.text[:_START])]
            titles = " ".join(title for other, title in section if other > 1)
        talk.append(bool(patterns.TALK.search(titles)))
        more.append(bool(patterns.MORE.search(titles)))
    before = np.cumsum(sizes) - sizes
    first = next((number for number, block in enumerate(page) if block.place.heading == 1), -1)
    columns = {
        "title": np.array([level == 1 for level in heads], dtype=np.float64),
        "heading": np.array([level > 1 for level in heads], dtype=np.float64),
        "under_talk": np.array(talk, dtype=np.float64),
        "under_more": np.array(more, dtype=np.float64),
        "under_words": np.log1p(company.sums("heading", sizes)) / 7,
        "under_place": np.log1p(numbers - np.maximum(0, company.headings)) / 4,
        "after": before / company.total,
        "no_title": np.full(len(page), float(first < 0)),
    }
    if first < 0:
        return columns
    distance = before - before[first]
    around = {node.key for node in page[first].place.path}
    shared = [[node.key for node in block.place.path if node.key in around] for block in page]
    return columns | {
        "before_title": (numbers < first) * 1.0,
        "title_distance": np.sign(distance) * np.log1p(np.abs(distance)) / 7,
        "title_shared": np.array([len(keys) for keys in shared]) / len(around),
        "title_element": np.array([company.words[keys[-1]] if keys else 0 for keys in shared]) / company.total,
    }


def _of_surroundings(columns: Columns, company: Company) -> Columns:
    """How much of what stands around each block."""
    sizes, total, link = company.sizes, company.total, columns["link"]
    one = np.ones(len(sizes))
    prose: Floats = ((link < _HARDLY_A_LINK) & (sizes >= _SENTENCE)).astype(np.float64)
    found: Columns = {"prose": prose}
    for group in ("parent", "third", "section", "heading"):
        words = company.sums(group, sizes)
        found[f"{group}_words"] = np.log1p(words) / 10
        found[f"{group}_share"] = words / total
        found[f"{group}_blocks"] = np.log1p(company.sums(group, one)) / 5
        found[f"{group}_link"] = company.means(group, link)
        found[f"{group}_prose"] = company.means(group, prose)
    alike, of_alike = company.sums("shape", one), company.sums("shape", sizes)
    counts: dict[int, int] = collections.Counter()
    nth = []
    for number in company.groups["shape"].tolist():
        counts[number] += 1
        nth.append(counts[number])
    found["alike"] = np.log(alike) / 3
    found["alike_words"] = np.log1p(of_alike / alike) / 3
    found["alike_share"] = of_alike / total
    found["alike_place"] = np.array(nth) / alike
    found["alike_before"] = np.log1p(nth) / 4
    for place in ("main", "article"):
        inside = columns[f"in_{place}"]
        found[f"out_of_{place}"] = (1 - inside) * inside.any()
        found[f"out_of_large_{place}"] = (1 - inside) * (sizes @ inside) / total
    return found


def _of_page(columns: Columns, company: Company) -> dict[str, float]:
    """What kind of page it looks like. The same for each of its blocks."""
    sizes, total, count = company.sizes, company.total, len(company.sizes)
    longest = (columns["link"] < _HARDLY_A_LINK) & (sizes >= _VERY_MANY)
    articles = {node.key for parts in company.parts for node in parts if node.tag == "article"}
    return {
        "page_words": math.log(total) / 10,
        "page_blocks": math.log1p(count) / 8,
        "page_mean": math.log1p(total / max(1, count)) / 4,
        "page_link": float(sizes @ columns["link"]) / total,
        "page_prose": float(sizes @ columns["prose"]) / total,
        "page_long": float(sizes @ longest) / total,
        "page_longest": math.log1p(float((sizes * columns["prose"]).max(initial=0))) / 6,
        "page_prices": math.log1p(float(columns["price"].sum())) / 5,
        "page_price": min(1.0, 10 * float(columns["price"].sum()) / max(1, count)),
        "page_date": min(1.0, 5 * float(columns["date"].sum()) / max(1, count)),
        "page_articles": math.log1p(len(articles)) / 4,
        "page_main": float(columns["in_main"].any()),
    }


def _found(pattern: re.Pattern[str], texts: Sequence[str]) -> Floats:
    return np.array([pattern.search(text) is not None for text in texts], dtype=np.float64)


def _share(words: Sequence[str], known: frozenset[str]) -> float:
    return sum(map(known.__contains__, words)) / len(words)


def _capitals(block: Block) -> float:
    """The share of its first words that begin with a capital."""
    initials = [word[0] for word in itertools.islice(block.text.split(None, 50), 50) if word[0].isalpha()]
    return sum(map(str.isupper, initials)) / len(initials) if initials else 0.0
