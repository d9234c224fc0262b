"""From scores to words: greedy search and beam search, as transformers does them.

A decoder is asked for one position at a time. What it keeps between them is its own business; it is told which of its
rows go on in which order.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Tokens = list[int]
Ids = np.ndarray[tuple[int, int], np.dtype[np.int64]]
RowScores = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Scores = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]

Step = Callable[[Ids, Ids | None], Scores]
"""Takes the token to be read next in each row, and which row of the same item each goes on from (None: from itself),
both (items, rows). Returns the scores of what follows, before a softmax: (items, rows, words)."""


class Limits(NamedTuple):
    """When a text ends."""

    end: int
    """The token that ends it."""
    tokens: int
    """At most so many, the end counted."""
    deadline: float = float("inf")
    """By `time.monotonic`. What there is by then is the answer."""


def generate(step: Step, items: int, begin: int, limits: Limits, beams: int = 1) -> list[Tokens]:
    """Return the tokens that follow `begin` for each of so many items, without their end."""
    found = _greedy(step, items, begin, limits) if beams == 1 else _beam_search(step, items, begin, limits, beams)
    return [tokens[: tokens.index(limits.end)] if limits.end in tokens else tokens for tokens in found]


def _greedy(step: Step, items: int, begin: int, limits: Limits) -> list[Tokens]:
    """Take the likeliest word each time."""
    found: list[Tokens] = [[] for _ in range(items)]
    ids = np.full((items, 1), begin, dtype=np.int64)
    for _ in range(limits.tokens):
        ids = step(ids, None).argmax(axis=-1)
        for tokens, token in zip(found, ids[:, 0].tolist(), strict=True):
            if limits.end not in tokens[-1:]:
                tokens.append(token)
        if all(tokens[-1] == limits.end for tokens in found) or time.monotonic() > limits.deadline:
            break
    return found


@dataclass(order=True)
class _Text:
    score: float
    """Of one that is not complete, its log-probability; of one that is, that by its length."""
    tokens: Tokens = field(compare=False)
    row: int = field(default=0, compare=False)
    """Of the decoder, which it went on from."""


@dataclass
class _Search:
    """The search for one item."""

    running: list[_Text]
    complete: list[_Text] = field(default_factory=list)
    open: bool = True
    """Whether what is running may still become better than what is complete."""

    def advance(self, scores: RowScores, limits: Limits, *, last: bool) -> None:
        """Let every text go on with the words of these scores (rows, words), and keep the best of all."""
        beams, words = scores.shape
        totals = (_log_softmax(scores) + np.array([[text.score] for text in self.running], dtype=np.float32)).ravel()
        # Twice as many as are kept: even if one half ends here, the other goes on.
        best = np.argpartition(-totals, 2 * beams - 1)[: 2 * beams]
        running, complete = [], []
        for place, index in enumerate(best[np.argsort(-totals[best], kind="stable")].tolist()):
            row, token = divmod(index, words)
            text = _Text(float(totals[index]), [*self.running[row].tokens, token], row)
            if token != limits.end and not last:
                running.append(text)
            elif place < beams:
                complete.append(_Text(text.score / len(text.tokens), text.tokens))
        self.running = running[:beams]
        if self.open:
            self.complete = sorted([*self.complete, *complete], reverse=True)[:beams]
        if last:
            self.open = False
        elif len(self.complete) == beams:
            self.open &= self.running[0].score / len(self.running[0].tokens) > self.complete[-1].score

    @property
    def result(self) -> Tokens:
        return self.complete[0].tokens


def _beam_search(step: Step, items: int, begin: int, limits: Limits, beams: int) -> list[Tokens]:
    """Follow the likeliest texts, by their log-probability over their length, instead of the likeliest words.

    It ends for an item when as many texts as there are beams are complete, and the best of those that are not is, at
    its present length, behind the last of them: `early_stopping=False` and `length_penalty=1` in transformers.
    """
    first = [_Text(0.0, []), *(_Text(-1e9, []) for _ in range(beams - 1))]  # or all would find the same
    searches = [_Search(list(first)) for _ in range(items)]
    ids, parents = np.full((items, beams), begin, dtype=np.int64), None
    for count in range(1, limits.tokens + 1):
        scores = step(ids, parents)
        last = count == limits.tokens or time.monotonic() > limits.deadline
        for search, item_scores in zip(searches, scores, strict=True):
            search.advance(item_scores, limits, last=last)
        if not any(search.open for search in searches):
            break
        ids = np.array([[text.tokens[-1] for text in search.running] for search in searches], dtype=np.int64)
        parents = np.array([[text.row for text in search.running] for search in searches], dtype=np.int64)
    return [search.result for search in searches]


def _log_softmax(scores: RowScores) -> RowScores:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
