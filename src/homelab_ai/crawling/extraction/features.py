"""What speaks for and against a block: figures about it and about where it stands, each of about the size of 1."""

import collections
import math
import re
from collections.abc import Sequence

from homelab_ai.crawling.extraction.blocks import Block
from homelab_ai.crawling.extraction.places import PLACES

_PLACES = [*PLACES, "hidden", "itemprop"]
_TALK = re.compile(
    r"\b(reviews?|ratings?|comments?|repl(y|ies)|responses?|questions?|q&a|answers?|discussion|kommentare?|bewertungen|"
    r"commentaires?|avis|comentarios|opiniones)\b",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\b(related|similar|recommend\w*|(you|customers) (may|might|also)|also (like|bought|viewed)|more (from|in|like|on|"
    r"stories|articles|posts|products)|recent(ly)?|popular|trending|latest|best ?sellers|read next|keep reading|"
    r"featured|suggested|people also|top stories|categories|archives|tags|follow us|share|newsletter|subscribe|"
    r"sign up|quick links|company|support|resources|navigation|about us|customer service|get in touch|contact us|"
    r"shipping|returns|ähnliche|weitere|auch interessant|articles? (liés|similaires)|relacionad[oa]s)\b",
    re.IGNORECASE,
)
_CHROME = re.compile(
    r"(©|\b(all rights reserved|privacy policy|terms (of|and|&)|cookies?|subscribe|sign (in|up)|log ?in|"
    r"register|newsletter|skip to|menu|share (this|on)|tweet|follow us|read more|learn more|view all|see all|"
    r"(show|load) more|show all|add to (cart|bag|basket|wishlist|compare)|"
    r"buy now|checkout|quick view|wish ?list|compare|sort by|filter|"
    r"copyright|powered by|javascript|email address|your (email|cart)|report|reply|quote|likes?|"
    r"permalink|posted (by|on|in)|joined|members?|back to top|previous|next|"
    r"datenschutz|impressum|anmelden|mentions légales|connexion)\b)",
    re.IGNORECASE,
)
_FEW, _MANY = 4, 20
"""Words of a block: a label, and a paragraph."""
_SENTENCE = 10
_A_LINK, _HALF_A_LINK, _HARDLY_A_LINK = 0.9, 0.5, 0.3
_PART = 0.7
"""Of the page's words, above which an element is the whole page rather than a part of it."""
_HEADING_TAGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_END = re.compile(r"[.!?…。:;\"”\u061f\uff01\uff1f]\s*$")


def features(page: Sequence[Block], by_trafilatura: Sequence[float]) -> list[dict[str, float]]:
    """Return the figures of each block of a page.

    `by_trafilatura` is the share of each block that trafilatura takes for the main content. A figure that is left out
    is 0.
    """
    sizes = [len(block.words) for block in page]
    total = sum(sizes) or 1
    around = _Surroundings(page, sizes, by_trafilatura)
    covered = sum(size * share for size, share in zip(sizes, by_trafilatura, strict=True)) / total
    has_main = any("main" in block.place.inside for block in page)
    has_article = any("article" in block.place.inside for block in page)
    first = next((number for number, block in enumerate(page) if block.place.heading == 1), -1)
    in_main = sum(size for size, block in zip(sizes, page, strict=True) if "main" in block.place.inside) / total
    seen: set[str] = set()
    rows = []
    section: list[tuple[int, str]] = []
    before = 0
    for number, (block, size) in enumerate(zip(page, sizes, strict=True)):
        place, text = block.place, block.text
        row = {f"in_{name}": 1.0 for name in _PLACES if name in place.inside}
        row |= {f"named_{group}": 1.0 for group in place.near}
        heading = place.heading if place.path and any(node.tag in _HEADING_TAGS for node in place.path[-3:]) else 0
        if heading:
            section = [(level, title) for level, title in section if level < heading] + [(heading, text)]
        titles = " ".join(title for level, title in section if level > 1)[:300]
        row["under_talk"] = float(bool(_TALK.search(titles)))
        row["under_more"] = float(bool(_MORE.search(titles)))
        row["chrome"] = float(bool(_CHROME.search(text[:400])))
        row["length"] = math.log1p(size) / 3
        row["short"] = float(size < _FEW)
        row["long"] = float(size >= _MANY)
        row["link"] = block.link
        row["all_link"] = float(block.link > _A_LINK)
        row["long_link"] = float(block.link > _HALF_A_LINK and size > _FEW)
        row["sentence"] = float(bool(_END.search(text)))
        row["commas"] = min(3, text.count(",")) / 3
        row["digits"] = sum(map(str.isdigit, text)) / len(text)
        row["title"] = float(heading == 1)
        row["heading"] = float(heading > 1)
        row |= around.of(number)
        row["after"] = before / total
        before += size
        row["before_title"] = float(number < first)
        row["no_title"] = float(first < 0)
        row["taken"] = by_trafilatura[number]
        row["covered"] = covered
        row["taken_covered"] = by_trafilatura[number] * covered
        row["left_covered"] = (1 - by_trafilatura[number]) * covered
        row["out_of_main"] = float(has_main and "main" not in place.inside)
        row["out_of_article"] = float(has_article and "article" not in place.inside)
        row["out_of_large_main"] = in_main * ("main" not in place.inside)
        row["repeated_text"] = float(text.lower() in seen)
        seen.add(text.lower())
        row["page"] = math.log(total) / 10
        rows.append(row)
    return rows


class _Surroundings:
    """How much of what stands in the elements around each block."""

    def __init__(self, page: Sequence[Block], sizes: Sequence[int], taken: Sequence[float]) -> None:
        self._page, self._total = page, sum(sizes) or 1
        self._words: dict[int, int] = collections.Counter()
        self._linked: dict[int, float] = collections.defaultdict(float)
        self._prose: dict[int, int] = collections.Counter()
        self._taken: dict[int, float] = collections.defaultdict(float)
        self._alike: dict[object, int] = collections.Counter()
        self._alike_words: dict[object, int] = collections.Counter()
        self._shapes = [block.place.shape for block in page]
        for block, size, share, shape in zip(page, sizes, taken, self._shapes, strict=True):
            linked, taken_words = size * block.link, size * share
            prose = size if block.link < _HARDLY_A_LINK and size >= _SENTENCE else 0
            self._alike[shape] += 1
            self._alike_words[shape] += size
            for node in block.place.path:
                self._words[node.key] += size
                self._linked[node.key] += linked
                self._prose[node.key] += prose
                self._taken[node.key] += taken_words

    def of(self, number: int) -> dict[str, float]:
        path, shape = self._page[number].place.path, self._shapes[number]
        row = {
            "alike": math.log(self._alike[shape]) / 3,
            "alike_words": math.log1p(self._alike_words[shape] / self._alike[shape]) / 3,
            "alike_share": self._alike_words[shape] / self._total,
        }
        section = next((node for node in path if self._words[node.key] < _PART * self._total), path[-1])
        for name, node in (("parent", path[-2:][0]), ("third", path[-4:][0]), ("section", section)):
            words = self._words[node.key] or 1
            row[f"{name}_words"] = math.log1p(words) / 10
            row[f"{name}_share"] = words / self._total
            row[f"{name}_link"] = self._linked[node.key] / words
            row[f"{name}_prose"] = self._prose[node.key] / words
            row[f"{name}_taken"] = self._taken[node.key] / words
        return row
