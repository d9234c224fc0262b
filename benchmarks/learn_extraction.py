"""Learns what `homelab_ai.crawling.extraction.scorer` goes by: `python -m benchmarks.learn_extraction FOLDER`.

FOLDER is as `benchmarks.extraction` takes it. A block counts as main content when most of its words stand in runs of
three that the page's main content has, too. Each page has the same say, and in it each word.

It learns from all pages and writes `weights.json` and `trees.json`; the same pages give the same files. With
`--folds 5` it writes nothing, and says how well pages do that were not learned from: they are dealt out into five parts
at random, all of a site into the same, and each part is read by what the other four have taught.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import homelab_ai.crawling.extraction
from benchmarks.extraction import Page, by_kind, f1_of, pages_in, words_of
from homelab_ai.crawling.extraction import metadata, scorer
from homelab_ai.crawling.extraction.about import about, runs_of
from homelab_ai.crawling.extraction.blocks import WORD, Block, blocks, parsed
from homelab_ai.crawling.extraction.charset import decoded
from homelab_ai.crawling.extraction.company import Company
from homelab_ai.crawling.extraction.features import features
from homelab_ai.crawling.extraction.trees import Trees

_PENALTY = 10.0
"""Of the regression, in pages: how much has to speak for a weight."""
_TREES = {
    "max_iter": 110,
    "learning_rate": 0.06,
    "max_leaf_nodes": 12,
    "min_samples_leaf": 200,
    "l2_regularization": 10,
    "max_features": 0.15,
    "early_stopping": False,
    "random_state": 0,
}
_INNER = 4
"""Parts of the pages that the trees learn from: each has a first opinion from the others, as unseen pages will have."""
_MOST = 0.5


def main() -> None:
    """Learn, or say how well that goes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--folds", type=int, help="score on held-out pages instead, this many parts in turn")
    options.add_argument("--seed", type=int, default=0, help="of how the sites are dealt out")
    asked = options.parse_args()
    data = _Data(list(pages_in(asked.folder)))
    everything = np.arange(len(data.pages))
    if asked.folds:
        scores = np.zeros(len(data.pages))
        for part in data.dealt(everything, asked.folds, asked.seed):
            weights, trees = data.learned(np.setdiff1d(everything, part))
            scores[part] = [data.score(number, weights, trees) for number in part]
        for line in by_kind([page.kind for page in data.pages], {"held out": scores.tolist()}):
            print(line)
        return
    weights, trees = data.learned(everything)
    folder = Path(homelab_ai.crawling.extraction.__file__).parent
    (folder / "weights.json").write_text(json.dumps(weights, indent=1) + "\n")
    (folder / "trees.json").write_text(json.dumps(trees, separators=(",", ":")) + "\n")


class _Data:
    """The blocks of all pages, one below the other."""

    def __init__(self, pages: list[Page]) -> None:
        self.pages = pages
        self._blocks = [_Read(page) for page in pages]
        self._names = sorted({name for read in self._blocks for name in read.columns})
        self._starts = np.cumsum([0, *(len(read.page) for read in self._blocks)])
        self._shares = np.concatenate([read.company.sizes / read.company.total for read in self._blocks])
        self._answers = np.concatenate([_answers(read.page, read.wanted) for read in self._blocks]) > _MOST
        self._table = np.concatenate([_table(read.columns, self._names, len(read.page)) for read in self._blocks])

    def dealt(self, numbers: Any, parts: int, seed: int) -> Iterator[Any]:
        """Deal pages out, all of a site into the same part."""
        sites = [_site(self.pages[number].url) for number in numbers]
        order = np.random.default_rng(seed).permutation(sorted(set(sites)))
        part_of = {site: place % parts for place, site in enumerate(order)}
        for part in range(parts):
            yield numbers[[part_of[site] == part for site in sites]]

    def learned(self, numbers: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the weights and the trees that these pages teach."""
        opinions: dict[int, dict[str, Any]] = {}
        for part in self.dealt(numbers, _INNER, len(numbers)):
            weights = self._weights(np.setdiff1d(numbers, part))
            for number in part:
                read = self._blocks[number]
                if read.page:
                    likely = scorer.probability(read.columns, weights)
                    opinions[number] = scorer.first_opinion(likely, read.company)
        firsts = sorted({name for opinion in opinions.values() for name in opinion})
        extra = np.concatenate([_table(opinions[number], firsts, 0) for number in numbers if number in opinions])
        rows = self._rows(numbers)
        model = HistGradientBoostingClassifier(**_TREES)
        shares = self._shares[rows]
        model.fit(np.hstack([self._table[rows], extra]), self._answers[rows], sample_weight=shares / shares.mean())
        return self._weights(numbers), stored(model, self._names + firsts)

    def score(self, number: int, weights: dict[str, float], trees: dict[str, Any]) -> float:
        """F1 of a page."""
        read = self._blocks[number]
        if not read.page:
            return f1_of(words_of(""), words_of(read.wanted))
        choice = scorer.choice(read.page, read.columns, read.company, weights, Trees(trees))
        text = " ".join(block.text for block, take in zip(read.page, choice, strict=True) if take)
        return f1_of(words_of(text), words_of(read.wanted))

    def _weights(self, numbers: Any) -> dict[str, float]:
        rows = self._rows(numbers)
        table = self._table[rows]
        middle, spread = table.mean(0), table.std(0) + 1e-6
        regression = LogisticRegression(C=1 / _PENALTY, max_iter=300)
        regression.fit((table - middle) / spread, self._answers[rows], sample_weight=self._shares[rows])
        raw = np.where(table.any(0), regression.coef_[0] / spread, 0)
        bias = regression.intercept_[0] - (raw * middle).sum()
        return {"bias": _short(bias)} | {
            name: _short(weight) for name, weight in zip(self._names, raw, strict=True) if weight
        }

    def _rows(self, numbers: Any) -> Any:
        return np.concatenate([np.arange(self._starts[number], self._starts[number + 1]) for number in numbers])


class _Read:
    """A page as the scorer gets it."""

    def __init__(self, page: Page) -> None:
        root = parsed(decoded(page.html, "text/html"))
        self.wanted = page.wanted
        self.page: list[Block] = []
        if root is not None:
            self.page = [block for block in blocks(root, page.url) if block.words]
        self.company = Company(self.page)
        self.columns = {}
        if root is not None and self.page:
            items = list(metadata.structured(root))
            said = metadata.metadata_of(root, page.url, items)
            self.columns = features(self.page, self.company, about(page.url, metadata.title_of(root), said, items))


def _table(columns: dict[str, Any], names: Sequence[str], rows: int) -> Any:
    if not columns:
        return np.zeros((rows, len(names)), dtype=np.float32)
    none = np.zeros(len(next(iter(columns.values()))))
    return np.column_stack([columns.get(name, none) for name in names]).astype(np.float32)


def _site(url: str) -> str:
    return ".".join((urlsplit(url if "://" in url else f"//{url}").hostname or "").split(".")[-2:])


def stored(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the form that `Trees` reads. scikit-learn has no public way to the nodes of these trees."""
    used: dict[int, int] = {}
    found: dict[str, Any] = {"start": _short(model._baseline_prediction.item()), "depth": 0, "roots": []}  # noqa: SLF001
    column: list[int] = []
    line: list[float] = []
    below: list[int] = []
    value: list[float] = []

    def grow(count: int) -> None:
        column.extend([0] * count)
        line.extend([0.0] * count)
        below.extend([0] * count)
        value.extend([0.0] * count)

    for (predictor,) in model._predictors:  # noqa: SLF001
        nodes = predictor.nodes
        found["roots"].append(len(column))
        found["depth"] = max(found["depth"], int(nodes["depth"].max()))
        waiting = [(0, len(column))]
        grow(1)
        while waiting:
            number, place = waiting.pop()
            node = nodes[number]
            if node["is_leaf"]:
                below[place], value[place] = place, _short(node["value"])
                continue
            column[place] = used.setdefault(int(node["feature_idx"]), len(used))
            line[place], below[place] = float(f"{node['num_threshold']:.5g}"), len(column)
            waiting += [(int(node["left"]), len(column)), (int(node["right"]), len(column) + 1)]
            grow(2)
    found |= {"figures": [names[number] for number in used], "column": column, "line": line}
    return found | {"below": below, "value": value}


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _answers(readable: Sequence[Block], wanted: str) -> Any:
    """The share of each block's words that stand in runs of three of the main content, across its borders, too."""
    known = [word.lower() for word in WORD.findall(wanted)]
    runs = runs_of(known)
    words = [word for block in readable for word in block.words]
    hit = np.zeros(len(words) + 2)
    for start, run in enumerate(zip(words, words[1:], words[2:], strict=False)):
        if run in runs:
            hit[start : start + 3] = 1
    shares, start = [], 0
    for block in readable:
        shares.append(float(hit[start : start + len(block.words)].mean()))
        start += len(block.words)
    return np.array(shares)


if __name__ == "__main__":
    main()
