"""Learns the weights of `homelab_ai.crawling.extraction.scorer`: `python -m benchmarks.learn_extraction FOLDER`.

FOLDER is as `benchmarks.extraction` takes it. A block counts as main content when most of its words stand in runs of
three that the page's main content has, too. Each page has the same say, and in it each word.

It prints how well a logistic regression does that was learned from one random half of the pages on the other half,
then learns from all of them and writes the weights, of two digits each.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

import homelab_ai.crawling.extraction
from benchmarks.extraction import Page, f1_of, pages_in, words_of
from homelab_ai.crawling.extraction import scorer
from homelab_ai.crawling.extraction.blocks import WORD, Block, blocks, parsed
from homelab_ai.crawling.extraction.charset import decoded
from homelab_ai.crawling.extraction.extract import by_trafilatura
from homelab_ai.crawling.extraction.features import features

_STRENGTH = 1.0
"""Of the regression's penalty, in pages: how much has to speak for a weight."""
_HALVES = 3
_MOST = 0.5


def main() -> None:
    """Learn, and say how well."""
    pages = list(pages_in(Path(sys.argv[1])))
    rows: list[dict[str, float]] = []
    answers: list[float] = []
    sizes: list[int] = []
    starts = [0]
    for page in pages:
        readable, figures = _read(page)
        rows += figures
        answers += _answers(readable, page.wanted)
        sizes += [len(block.words) for block in readable]
        starts.append(len(rows))
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=np.float32)
    data = _Data(pages, names, table)
    data.answers, data.sizes, data.starts = np.array(answers) > _MOST, np.array(sizes), starts
    for seed in range(_HALVES):
        print(f"halves, seed {seed}: F1 {np.mean(list(data.across(seed))):.4f}")
    weights = data.learned(range(len(pages)))
    target = Path(homelab_ai.crawling.extraction.__file__).parent / "weights.json"
    target.write_text(json.dumps(weights, indent=1) + "\n")
    print(f"all: F1 {np.mean(list(data.scores(weights, range(len(pages))))):.4f}; written to {target.name}")


class _Data:
    answers: Any
    sizes: Any
    starts: list[int]

    def __init__(self, pages: list[Page], names: list[str], table: Any) -> None:
        self._pages, self._names, self._table = pages, names, table

    def across(self, seed: int) -> Iterator[float]:
        """Each half by what was learned from the other."""
        order = np.random.default_rng(seed).permutation(len(self._pages))
        one, other = order[::2], order[1::2]
        yield from self.scores(self.learned(one), other)
        yield from self.scores(self.learned(other), one)

    def learned(self, numbers: Any) -> dict[str, float]:
        chosen = [row for number in numbers for row in range(self.starts[number], self.starts[number + 1])]
        shares = np.concatenate([self._share(number) for number in numbers])
        table = self._table[chosen]
        middle, spread = table.mean(0), table.std(0) + 1e-6
        regression = LogisticRegression(C=1 / _STRENGTH, max_iter=500)
        regression.fit((table - middle) / spread, self.answers[chosen], sample_weight=shares)
        raw = regression.coef_[0] / spread
        bias = regression.intercept_[0] - (raw * middle).sum()
        usable = np.where(table.any(0), raw, 0)
        weights = {name: float(f"{weight:.2g}") for name, weight in zip(self._names, usable, strict=True)}
        return {"bias": float(f"{bias:.2g}")} | {name: weight for name, weight in weights.items() if weight}

    def scores(self, weights: dict[str, float], numbers: Any) -> Iterator[float]:
        """F1 of each page."""
        vector = np.array([weights.get(name, 0.0) for name in self._names])
        for number in numbers:
            rows = slice(self.starts[number], self.starts[number + 1])
            likely = 1 / (1 + np.exp(-(self._table[rows] @ vector + weights["bias"])))
            page = self._pages[number]
            readable = _blocks(page)
            taken = scorer.best_choice(scorer.in_company(readable, likely.tolist()), self.sizes[rows].tolist())
            text = " ".join(block.text for block, take in zip(readable, taken, strict=True) if take)
            yield f1_of(words_of(text), words_of(page.wanted))

    def _share(self, number: int) -> Any:
        sizes = self.sizes[self.starts[number] : self.starts[number + 1]]
        return sizes / max(1.0, sizes.sum())


def _blocks(page: Page) -> list[Block]:
    root = parsed(decoded(page.html, "text/html"))
    return [] if root is None else [block for block in blocks(root, page.url) if block.words]


def _read(page: Page) -> tuple[list[Block], list[dict[str, float]]]:
    root = parsed(decoded(page.html, "text/html"))
    if root is None:
        return [], []
    readable = [block for block in blocks(root, page.url) if block.words]
    return readable, features(readable, by_trafilatura(readable, root))


def _answers(readable: list[Block], wanted: str) -> list[float]:
    """The share of each block's words that stand in runs of three of the main content, across its borders, too."""
    known = [word.lower() for word in WORD.findall(wanted)]
    runs = set(zip(known, known[1:], known[2:], strict=False))
    words = [word for block in readable for word in block.words]
    hit = np.zeros(len(words) + 2)
    for start, run in enumerate(zip(words, words[1:], words[2:], strict=False)):
        if run in runs:
            hit[start : start + 3] = 1
    shares, start = [], 0
    for block in readable:
        shares.append(float(hit[start : start + len(block.words)].mean()))
        start += len(block.words)
    return shares


if __name__ == "__main__":
    main()
