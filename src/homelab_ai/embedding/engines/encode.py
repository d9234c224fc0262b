"""Embedding models on torch that are no plain transformers of texts, by sentence-transformers' own `encode`.

Static embeddings, models that take pictures too, tokenizers of an older kind: what they have in common is `encode`.
"""

import time
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from homelab_ai.embedding.engines.embedded import Embedded, Matrix
from homelab_ai.embedding.engines.plain import TOKENS_PER_PASS, passes
from homelab_ai.embedding.engines.windows import CHARACTERS_AT_MOST, CHARACTERS_PER_TOKEN, TOKENS_AROUND_A_CUT

Counts = np.ndarray[tuple[int], np.dtype[np.int64]]


class AnyModel:
    """Embeds with whatever sentence-transformers can load."""

    def __init__(self, model: SentenceTransformer, window: int | None) -> None:
        """`window` is how many tokens of a text are read; static embeddings have none."""
        self._model = model
        self._window = window
        self._takes_more_than_text = set(model.modalities) != {"text"}
        self._prompt = model.prompts.get(model.default_prompt_name or "", "")
        if window:
            model.max_seq_length = window
        self.dimensions = int(self._vectors(["dimensions"]).shape[1])

    def embed(self, texts: list[str]) -> Embedded:
        """Return the vectors of these texts."""
        started = time.perf_counter()
        texts, lengths = self._measured(texts)
        measured = time.perf_counter()
        truncated = np.flatnonzero(lengths > self._window).tolist() if self._window else []
        matrix = np.empty((len(texts), self.dimensions), dtype=np.float32)
        read = np.minimum(lengths, self._window or lengths)
        for rows in passes(read, TOKENS_PER_PASS):
            matrix[rows] = self._vectors([texts[row] for row in rows])
        # sentence-transformers tokenizes once more, which is in the second figure.
        seconds = measured - started, time.perf_counter() - measured
        return Embedded(matrix, truncated, *seconds, int(read.sum()) if self._window else None)

    def _vectors(self, texts: list[str]) -> Matrix:
        # A model that takes pictures too would fetch what a text that looks like their address points to.
        inputs: list[Any] = [{"text": text} for text in texts] if self._takes_more_than_text else list(texts)
        vectors = self._model.encode(inputs, batch_size=len(inputs), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, dtype=np.float32)

    def _measured(self, texts: list[str]) -> tuple[list[str], Counts]:
        """Return the texts, without what lies far beyond the window, and how many tokens each has.

        As `tokens.Tokens` does, a long text is judged by its beginning.
        """
        if not self._window:
            return texts, np.array([len(text) for text in texts])
        beginning = CHARACTERS_PER_TOKEN * self._window
        kept = [text[:beginning] for text in texts]
        lengths = self._token_counts(kept)
        # At the cut, the last tokens may be others than in the whole text: what counts must be well before it.
        undecided = lengths <= self._window + TOKENS_AROUND_A_CUT
        for row, text in enumerate(texts):
            if undecided[row] and len(text) > beginning:
                kept[row] = text[:CHARACTERS_AT_MOST]
                (lengths[row],) = self._token_counts([kept[row]])
                if len(text) > CHARACTERS_AT_MOST:
                    lengths[row] = max(lengths[row], self._window + 1)
        return kept, lengths

    def _token_counts(self, texts: list[str]) -> Counts:
        """Count all tokens of each text, with the special ones and the prompt that the model puts before it."""
        prompted = [self._prompt + text for text in texts] if self._prompt else texts
        ids = self._model.tokenizer(prompted, add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        return np.fromiter((len(sequence) for sequence in ids), dtype=np.int64, count=len(texts))
