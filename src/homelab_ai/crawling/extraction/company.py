"""Which blocks of a page belong together, and what they have in common.

A block stands in six companies: of its parent, of an element further out, of all that looks like it, of its section, of
the heading above it, and of the whole page. They say how it is surrounded (`features`), and what its neighbours are
taken for says what it may be (`scorer`).
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homelab_ai.crawling.extraction.blocks import Block
from homelab_ai.crawling.extraction.places import HEADINGS, Node

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

_PART = 0.7
"""Of the page's words, above which an element is the whole page rather than a part of it."""


class Company:
    """The blocks of one page, in groups."""

    def __init__(self, page: Sequence[Block]) -> None:
        self.sizes: Floats = np.array([len(block.words) for block in page], dtype=np.float64)
        self.total = max(1.0, float(self.sizes.sum()))
        self.words: dict[int, int] = {}
        """Of each element, by its key."""
        for block in page:
            for node in block.place.path:
                self.words[node.key] = self.words.get(node.key, 0) + len(block.words)
        self.parts = [self._parts(block) for block in page]
        """The elements around each block that are parts of the page."""
        self.headings = _headings(page)
        """The number of the block that is the heading above, -1 where there is none."""
        self.groups: dict[str, Numbers] = {
            "parent": _numbered(block.place.path[-2:][0].key for block in page),
            "third": _numbered(block.place.path[-4:][0].key for block in page),
            "shape": _numbered(block.place.shape for block in page),
            "section": _numbered(parts[0].key if parts else 0 for parts in self.parts),
            "heading": _numbered(self.headings),
            "page": np.zeros(len(page), dtype=np.intp),
        }

    def sums(self, group: str, values: Floats) -> Floats:
        """Return for each block the sum over all blocks of its group."""
        numbers = self.groups[group]
        sums: Floats = np.bincount(numbers, values).astype(np.float64)[numbers]
        return sums

    def means(self, group: str, values: Floats) -> Floats:
        """Return for each block the mean over all words of its group."""
        means: Floats = self.sums(group, values * self.sizes) / self.sums(group, self.sizes)
        return means

    def _parts(self, block: Block) -> tuple[Node, ...]:
        path = block.place.path
        start = next((number for number, node in enumerate(path) if self.words[node.key] < _PART * self.total), None)
        return () if start is None else path[start:]


def is_heading(block: Block) -> bool:
    """Whether a block is a heading, or a part of one."""
    return block.place.heading > 0 and any(node.tag in HEADINGS for node in block.place.path[-3:])


def _numbered(keys: Iterable[Hashable]) -> Numbers:
    known: dict[Any, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.intp)


def _headings(page: Sequence[Block]) -> list[int]:
    last, above = -1, []
    for number, block in enumerate(page):
        if is_heading(block):
            last = number
        above.append(last)
    return above
