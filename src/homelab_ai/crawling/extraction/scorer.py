"""Which blocks are the main content: two opinions, the second formed in knowledge of the first.

The first is a logistic regression over the figures of `features`. What it says of a block, of those in its company and
of the page as a whole becomes figures of its own, and of all of them boosted trees form the second, which counts: they
can tell that a block is a product's description because the page is a product's, and that the page is one because of
its blocks. `weights.json` and `trees.json` hold both, as `benchmarks/learn_extraction.py` has learned them from the 546
pages of a part of WCXB's development set (Murrough Foley, CC-BY-4.0).
"""

import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from homelab_ai.crawling.extraction.about import About
from homelab_ai.crawling.extraction.blocks import Block
from homelab_ai.crawling.extraction.company import Company, Floats
from homelab_ai.crawling.extraction.features import Columns, features
from homelab_ai.crawling.extraction.trees import Trees
from homelab_ai.crawling.extraction.whole import whole

_BESIDE = 2
"""Blocks on each side."""
CAUTION: Final = 0.6
"""How much of what is expected to be the main content counts when the line is drawn: below 1, less is taken."""


def chosen(page: Sequence[Block], about: About) -> list[bool]:
    """Return which blocks of a page to take, none of which is without words."""
    if not page:
        return []
    company = Company(page)
    return choice(page, features(page, company, about), company, _weights(), _trees())


def choice(
    page: Sequence[Block], columns: Columns, company: Company, weights: Mapping[str, float], trees: Trees
) -> list[bool]:
    """Return which blocks to take, by their figures."""
    known = columns | first_opinion(probability(columns, weights), company)
    nothing = np.zeros(len(company.sizes))  # a page without a title has no distance to it
    likely = _chances(trees.of([known.get(name, nothing) for name in trees.figures]))
    return whole(page, best_choice(in_company(likely, company), company.sizes))


@functools.cache
def _weights() -> dict[str, float]:
    loaded: dict[str, float] = _stored("weights.json")
    return loaded


@functools.cache
def _trees() -> Trees:
    return Trees(_stored("trees.json"))


def _stored(name: str) -> Any:
    return orjson.loads((importlib.resources.files("homelab_ai.crawling.extraction") / name).read_bytes())


def probability(columns: Columns, weights: Mapping[str, float]) -> Floats:
    """How likely it is that a block belongs to the main content, as the regression has it.

    The weight of `bias` is added always.
    """
    odds = np.full(len(columns["length"]), weights["bias"])
    for name, column in columns.items():
        odds += weights.get(name, 0.0) * column
    return _chances(odds)


def _chances(odds: Floats) -> Floats:
    """The probabilities that the logarithms of the odds stand for."""
    chances: Floats = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    return chances


def first_opinion(likely: Floats, company: Company) -> Columns:
    """Return what the first opinion is of each block, of those in its company, beside it, and of the page."""
    columns = {f"first_{group}": company.means(group, likely) for group in company.groups}
    line = _line(likely, company.sizes)
    return columns | {
        "first": likely,
        "first_next": np.append(likely[1:], 0.0),
        "first_last": np.append(0.0, likely[:-1]),
        "first_best": np.full(len(likely), likely.max(initial=0)),
        "first_line": np.full(len(likely), line),
        "first_above_line": likely - line,
    }


def in_company(likely: Floats, company: Company) -> Floats:
    """Return the mean of four: of a block's own probability, and of those of its parent, of its like and beside it."""
    near = _beside(likely * company.sizes) / _beside(company.sizes)
    mean: Floats = (likely + company.means("parent", likely) + company.means("shape", likely) + near) / 4
    return mean


def _beside(values: Floats) -> Floats:
    """Return the sums of each value and of those on both sides of it."""
    sums = np.append(0.0, np.cumsum(values))
    numbers = np.arange(len(values))
    near: Floats = sums[np.minimum(len(values), numbers + _BESIDE + 1)] - sums[np.maximum(0, numbers - _BESIDE)]
    return near


def best_choice(likely: Floats, sizes: Floats) -> list[bool]:
    """Return which blocks to take: those above the line that makes the expected F1 largest.

    The line is another one on each page. Where the probabilities are clear it is near one half, and the more doubtful
    they all are, the lower it is: to return half of a page that nobody is sure about is better than to return nothing.
    """
    chosen: list[bool] = (likely >= _line(likely, sizes)).tolist()
    return chosen


def _line(likely: Floats, sizes: Floats) -> float:
    order = np.argsort(-likely, kind="stable")
    right = np.cumsum(likely[order] * sizes[order])
    expected = 2 * right / (np.cumsum(sizes[order]) + CAUTION * right[-1])
    return float(likely[order][np.argmax(expected)])
