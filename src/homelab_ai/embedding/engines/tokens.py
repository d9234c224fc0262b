"""Texts to token ids, for the engines that calculate with the tokens of a plain transformer themselves.

Imports neither torch nor OpenVINO: both engines use it, each with a library that the other can do without.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from homelab_ai.embedding.engines.windows import CHARACTERS_AT_MOST, CHARACTERS_PER_TOKEN, TOKENS_AROUND_A_CUT

Ids = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Facts:
    """What has to be known of a model to give it texts."""

    inputs: Sequence[str]
    """What it wants, in its order: some of input_ids, attention_mask, token_type_ids."""
    dimensions: int
    window: int
    """In tokens."""
    prompt: str
    """What the model puts before every text."""
    pad_id: int
    pad_left: bool


class Tokens:
    """The tokenizer of one model."""

    def __init__(self, tokenizer: Tokenizer, facts: Facts, window: int) -> None:
        """`window` is how many tokens of a text are read, special ones included."""
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window)
        self._facts = facts
        self._window = window

    def of(self, texts: list[str]) -> tuple[list[Encoding], list[int]]:
        """Tokenize, and say which texts are longer than the window.

        To tokenize all of a book for the sake of its first page would take minutes and gigabytes, so a long text is
        judged by its beginning. Where that is short in tokens, as spaces are and single words of a million letters, a
        million characters are looked at; what is longer still counts as longer than the window.
        """
        beginning = CHARACTERS_PER_TOKEN * self._window
        encodings = self._tokenizer.encode_batch_fast([self._facts.prompt + text[:beginning] for text in texts])
        truncated = []
        for row, text in enumerate(texts):
            beyond = _tokens_beyond(encodings[row])
            if len(text) > beginning and beyond <= TOKENS_AROUND_A_CUT:
                encodings[row] = self._tokenizer.encode(self._facts.prompt + text[:CHARACTERS_AT_MOST])
                beyond = _tokens_beyond(encodings[row]) or len(text) > CHARACTERS_AT_MOST
            if beyond:
                truncated.append(row)
        return encodings, truncated

    def padded(self, encodings: list[Encoding], width: int) -> list[Ids]:
        """Return what the model wants of these texts, in its order: a row for each, of `width` tokens."""
        given = {name: np.zeros((len(encodings), width), dtype=np.int64) for name in self._facts.inputs}
        given["input_ids"].fill(self._facts.pad_id)
        for row, encoding in enumerate(encodings):
            count = len(encoding)
            place = slice(width - count, width) if self._facts.pad_left else slice(0, count)
            for name, values in given.items():
                match name:
                    case "input_ids":
                        values[row, place] = encoding.ids
                    case "attention_mask":
                        values[row, place] = 1
                    case _:
                        values[row, place] = encoding.type_ids
        return list(given.values())


def _tokens_beyond(encoding: Encoding) -> int:
    """How many tokens, special ones not counted, were cut off."""
    return sum(sum(1 for special in part.special_tokens_mask if not special) for part in encoding.overflowing)
