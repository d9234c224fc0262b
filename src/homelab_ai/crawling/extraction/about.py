"""What a page says of itself, as far as it helps to tell its main content: its address, its types, its own summary."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from homelab_ai.crawling.extraction.blocks import WORD
from homelab_ai.crawling.extraction.patterns import ADDRESSES, TYPES

_BODIES = ("articleBody", "text", "description")
_TAG = re.compile(r"<[^<>]{0,500}>")
_LONG_NUMBER = re.compile(r"\d{4,}")
_ADDRESSES = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in ADDRESSES.items()}

Run = tuple[str, str, str]
"""Three words that follow each other."""


@dataclass(frozen=True)
class About:
    """What the figures of a page's blocks are taken with."""

    figures: dict[str, float] = field(default_factory=dict)
    """The same for each of its blocks."""
    title: frozenset[str] = frozenset()
    """Words of its title."""
    summary: frozenset[Run] = frozenset()
    """Of the description in its head."""
    structured: frozenset[Run] = frozenset()
    """Of the texts in its JSON-LD."""


def about(url: str, title: str, said: dict[str, Any], items: Iterable[dict[str, Any]]) -> About:
    """`said` is the page's metadata, `items` the objects of its JSON-LD."""
    types: set[str] = set()
    runs: set[Run] = set()
    for item in items:
        named = item.get("@type")
        types.update(name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str))
        for key in _BODIES:
            if isinstance(item.get(key), str):
                runs |= runs_of(words_of(_TAG.sub(" ", item[key])))
    kind = str(said.get("page_type", "")).lower()
    figures = {f"type_{name}": float(bool(types & known)) for name, known in TYPES.items()}
    figures |= {f"og_{name}": float(name in kind) for name in ("article", "product", "website")}
    return About(
        figures=figures | _of_address(url),
        title=frozenset(words_of(title)),
        summary=frozenset(runs_of(words_of(str(said.get("description", ""))))),
        structured=frozenset(runs),
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return WORD.findall(text.lower())


def runs_of(words: list[str]) -> set[Run]:
    """Return all runs of three words."""
    return set(zip(words, words[1:], words[2:], strict=False))


def share_in(words: list[str], known: frozenset[Run]) -> float:
    """Return the share of the runs of three that are known."""
    if not known or len(words) < 3:  # noqa: PLR2004 - a run
        return 0.0
    return sum(map(known.__contains__, zip(words, words[1:], words[2:], strict=False))) / (len(words) - 2)


def _of_address(url: str) -> dict[str, float]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    path = f"{parts.netloc}{parts.path}"[:1000]
    steps = [step for step in parts.path[:1000].split("/") if step]
    hyphens = max((step.count("-") + step.count("_") for step in steps), default=0)
    figures = {f"address_{kind}": float(bool(pattern.search(path))) for kind, pattern in _ADDRESSES.items()}
    return figures | {
        "address_root": float(not steps),
        "address_depth": min(5, len(steps)) / 5,
        "address_slug": min(8, hyphens) / 8,
        "address_number": float(any(_LONG_NUMBER.search(step) for step in itertools.islice(steps, 20))),
    }
