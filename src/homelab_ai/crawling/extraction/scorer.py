"""Which blocks are the main content: a logistic regression over the figures of `features`.

`weights.json` holds the weight of each figure, of two digits, as `benchmarks/learn_extraction.py` has learned them from
the 546 pages of WCXB's development set. Learned from a random half of those, they reach an F1 of 0.82 to 0.83 on the
other half, where trafilatura has 0.77; on all pages that they were learned from, 0.84. Figures of what kind of page it
says to be were tried and left out, as were trees and a hidden layer: they do better on the pages that they have seen
and no better on others.
"""

import collections
import functools
import importlib.resources
import math
from collections.abc import Sequence
from typing import Final

import orjson

from homelab_ai.crawling.extraction.blocks import Block

_BESIDE = 2
"""Blocks on each side."""
CAUTION: Final = 0.6
"""How much of what is expected to be the main content counts when the line is drawn: below 1, less is taken."""


@functools.cache
def weights() -> dict[str, float]:
    """Return the weight of each figure; that of `bias` is added always."""
    file = importlib.resources.files("homelab_ai.crawling.extraction") / "weights.json"
    loaded: dict[str, float] = orjson.loads(file.read_bytes())
    return loaded


def probability(figures: dict[str, float]) -> float:
    """How likely it is that a block with these figures belongs to the main content."""
    known = weights()
    total = known["bias"] + sum(known.get(name, 0.0) * value for name, value in figures.items())
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def in_company(page: Sequence[Block], likely: Sequence[float]) -> list[float]:
    """Let the company that a block is in have its say.

    Returns the mean of four: of its own probability, and of those, word by word, of what is in the same element, of all
    that looks like it, and of what stands before and after it.
    """
    of_parent, of_shape = _Mean(), _Mean()
    for block, chance in zip(page, likely, strict=True):
        of_parent.add(_parent(block), len(block.words), chance)
        of_shape.add(block.place.shape, len(block.words), chance)
    result = []
    for number, (block, chance) in enumerate(zip(page, likely, strict=True)):
        beside = _Mean()
        for near in range(max(0, number - _BESIDE), min(len(page), number + _BESIDE + 1)):
            beside.add(None, len(page[near].words), likely[near])
        company = of_parent.of(_parent(block)) + of_shape.of(block.place.shape) + beside.of(None)
        result.append((chance + company) / 4)
    return result


class _Mean:
    """Means of probabilities, by whatever they have in common."""

    def __init__(self) -> None:
        self._words: dict[object, int] = collections.defaultdict(int)
        self._sums: dict[object, float] = collections.defaultdict(float)

    def add(self, key: object, words: int, chance: float) -> None:
        self._words[key] += words
        self._sums[key] += words * chance

    def of(self, key: object) -> float:
        return self._sums[key] / self._words[key]


def _parent(block: Block) -> int:
    return block.place.path[-2:][0].key


def best_choice(likely: Sequence[float], sizes: Sequence[int]) -> list[bool]:
    """Return which blocks to take: those above the line that makes the expected F1 largest.

    The line is another one on each page. Where the probabilities are clear it is near one half, and the more doubtful
    they all are, the lower it is: to return half of a page that nobody is sure about is better than to return nothing.
    """
    order = sorted(range(len(likely)), key=lambda number: -likely[number])
    wanted = CAUTION * sum(chance * size for chance, size in zip(likely, sizes, strict=True))
    right = chosen = best = 0.0
    line = 1.0
    for number in order:
        right += likely[number] * sizes[number]
        chosen += sizes[number]
        value = 2 * right / (chosen + wanted) if chosen + wanted else 0.0
        if value > best:
            best, line = value, likely[number]
    return [chance >= line for chance in likely]
