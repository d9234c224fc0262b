"""Which blocks are the main content: a logistic regression over the figures of `features`.

`weights.json` holds its weights, one or two digits each, as `benchmarks/learn_extraction.py` has learned them; its
docstring says from what, and how well they do on pages that they were not learned from.
"""

import functools
import importlib.resources
import math
from collections.abc import Sequence
from typing import Final

import orjson

CAUTION: Final = 0.8
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


def expected_f1(likely: Sequence[float], sizes: Sequence[int], taken: Sequence[float]) -> float:
    """How good a choice is, going by the probabilities: the F1 that it has if they are right.

    `taken` is the share of each block that is chosen.
    """
    right = sum(chance * size * share for chance, size, share in zip(likely, sizes, taken, strict=True))
    chosen = sum(size * share for size, share in zip(sizes, taken, strict=True))
    wanted = CAUTION * sum(chance * size for chance, size in zip(likely, sizes, strict=True))
    return 2 * right / (chosen + wanted) if chosen + wanted else 0.0


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
