"""The search for words, over a decoder that is a table: what follows a word depends on nothing but that word."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_ai.captioning.engines.generation import Ids, Limits, Scores, generate

WORDS, END, BEGIN = 5, 1, 0

Table = list[list[float]]


class Decoder:
    """Remembers what each row has read, so that rows which are mixed up are noticed."""

    def __init__(self, table: Table) -> None:
        self.table = np.array(table, dtype=np.float32)
        self.read: list[list[list[int]]] = []

    def __call__(self, ids: Ids, parents: Ids | None) -> Scores:
        items, rows = ids.shape
        before = self.read or [[[] for _ in range(rows)] for _ in range(items)]
        order = parents.tolist() if parents is not None else [list(range(rows))] * items
        self.read = [
            [[*before[item][order[item][row]], int(ids[item, row])] for row in range(rows)] for item in range(items)
        ]
        return self.table[ids]


def likelihood(table: Table, tokens: list[int]) -> float:
    """The log-probability of a text that begins after BEGIN."""
    total, last = 0.0, BEGIN
    for token in tokens:
        row = np.array(table[last], dtype=np.float64)
        total += row[token] - math.log(np.exp(row).sum())
        last = token
    return total


tables = st.lists(st.lists(st.floats(-4, 4, width=32), min_size=WORDS, max_size=WORDS), min_size=WORDS, max_size=WORDS)


@given(tables, st.integers(1, 6), st.integers(1, 3))
def test_the_greedy_text_takes_the_likeliest_word_each_time(table: Table, most: int, items: int) -> None:
    found = generate(Decoder(table), items, BEGIN, Limits(END, most))
    expected: list[int] = []
    for _ in range(most):
        last = expected[-1] if expected else BEGIN
        if (word := int(np.array(table[last], dtype=np.float32).argmax())) == END:
            break
        expected.append(word)
    assert found == [expected] * items


@given(tables, st.integers(1, 4))
def test_with_as_many_beams_as_there_are_texts_nothing_is_missed(table: Table, most: int) -> None:
    """Among all texts of up to so many words the best by likelihood over length is found, where all are followed."""
    decoder = Decoder(table)
    (found,) = generate(decoder, 1, BEGIN, Limits(END, most), beams=WORDS**3)
    ended = [
        [*words, END]
        for count in range(most)
        for words in itertools.product([word for word in range(WORDS) if word != END], repeat=count)
    ]
    cut = [list(words) for words in itertools.product([w for w in range(WORDS) if w != END], repeat=most)]
    best = max(likelihood(table, text) / len(text) for text in [*ended, *cut])
    text = found if len(found) == most else [*found, END]
    reached = likelihood(table, text) / len(text)
    assert reached == pytest.approx(best, abs=1e-4)


@given(tables, st.integers(2, 4), st.integers(1, 3))
def test_every_row_goes_on_from_the_text_that_it_belongs_to(table: Table, beams: int, items: int) -> None:
    decoder = Decoder(table)
    first, *others = generate(decoder, items, BEGIN, Limits(END, 5), beams)
    assert all(other == first for other in others)
    for rows in decoder.read:
        assert all(text[0] == BEGIN and END not in text for text in rows)
        assert len({tuple(text) for text in rows}) == len(rows), "two rows follow the same text"


@pytest.mark.parametrize("beams", [1, 3])
def test_what_there_is_at_the_deadline_is_the_answer(beams: int) -> None:
    never_ends = [[0.0, -50.0, 1.0, 0.5, 0.2]] * WORDS
    assert generate(Decoder(never_ends), 2, BEGIN, Limits(END, 100, deadline=-math.inf), beams) == [[2], [2]]
    assert generate(Decoder(never_ends), 2, BEGIN, Limits(END, 3), beams) == [[2, 2, 2]] * 2
