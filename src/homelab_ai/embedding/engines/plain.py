"""Plain transformers of texts on torch: tokenized once, packed by tokens, calculated without `encode`.

Most embedding models are one: a transformer with a fast tokenizer, then pooling, dense layers and normalization, which
stay sentence-transformers' own. `encode` would tokenize every text again, and wait for the device after every batch;
here the processor gets the next pass ready while a GPU is still at the last one.
"""

import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Encoding, Tokenizer

from homelab_ai.embedding.engines.embedded import Embedded
from homelab_ai.embedding.engines.tokens import Facts, Tokens

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Padded tokens in one forward pass. Larger passes lose more to padding than they win on a CPU, and their memory is
# what makes a host grow; a GPU is not even busy with so few.
TOKENS_PER_PASS = 4096
_TOKENS_PER_PASS_ON_GPU = 32768
_WIDTHS = 8
"""Rows are padded to a multiple of so many tokens: what the matrix units of a GPU work in."""


class NotPlainError(Exception):
    """The model is something else. The text says why, as the end of a sentence."""


def about(model: SentenceTransformer) -> tuple[Tokenizer, Facts]:
    """Return the tokenizer of a plain transformer, and the facts. Raises `NotPlainError`."""
    if not isinstance(model[0], Transformer) or set(model.modalities) != {"text"}:
        raise NotPlainError("it is no plain transformer of texts")
    if not isinstance(model.max_seq_length, int):
        raise NotPlainError("it has no window")
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise NotPlainError("its tokenizer is not one of the fast ones")
    prompt = model.prompts.get(model.default_prompt_name or "", "")
    if prompt and not all(getattr(module, "include_prompt", True) for module in model):
        raise NotPlainError("it leaves its prompt out of the pooling")
    features = model.preprocess(["one text"])
    inputs = tuple(name for name in _INPUTS if name in features)
    if unknown := [name for name, value in features.items() if torch.is_tensor(value) and name not in inputs]:
        raise NotPlainError(f"it wants {', '.join(unknown)} beside the tokens")
    with torch.inference_mode():
        dimensions = vectors(model, {name: features[name].to(model.device) for name in inputs}).shape[1]
    return tokenizer.backend_tokenizer, Facts(
        inputs=inputs,
        dimensions=dimensions,
        window=model.max_seq_length,
        prompt=prompt,
        pad_id=int(tokenizer.pad_token_id or 0),
        pad_left=tokenizer.padding_side == "left",
    )


def vectors(model: SentenceTransformer, features: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model as a function of tensors: one row for each text."""
    found: torch.Tensor = model(dict(features))["sentence_embedding"]
    return found if model.truncate_dim is None else found[:, : model.truncate_dim]


class PlainTransformer:
    """Embeds with one such model."""

    def __init__(self, model: SentenceTransformer, tokenizer: Tokenizer, facts: Facts, window: int) -> None:
        self.dimensions = facts.dimensions
        self._model = model
        self._facts = facts
        self._window = window
        self._tokens = Tokens(tokenizer, facts, window)

    def embed(self, texts: list[str]) -> Embedded:
        """Return the vectors of these texts."""
        started = time.perf_counter()
        encodings, truncated = self._tokens.of(texts)
        tokenized = time.perf_counter()
        matrix = np.empty((len(texts), self.dimensions), dtype=np.float32)
        lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(texts))
        on_gpu = self._model.device.type != "cpu"
        with torch.inference_mode():
            # A GPU takes its work and goes on at once: nobody waits for it before all of it has been given out.
            found = [
                (rows, self._pass([encodings[row] for row in rows]))
                for rows in passes(lengths, _TOKENS_PER_PASS_ON_GPU if on_gpu else TOKENS_PER_PASS)
            ]
            for rows, part in found:
                matrix[rows] = part.cpu().numpy()
        calculated = time.perf_counter()
        return Embedded(matrix, truncated, tokenized - started, calculated - tokenized, int(lengths.sum()))

    def _pass(self, encodings: list[Encoding]) -> torch.Tensor:
        """Calculate these together or, where a GPU has no room for that, by halves."""
        width = min(-(-max(map(len, encodings)) // _WIDTHS) * _WIDTHS, self._window)
        inputs = self._tokens.padded(encodings, width)
        features = {
            name: torch.from_numpy(values).to(self._model.device)
            for name, values in zip(self._facts.inputs, inputs, strict=True)
        }
        try:
            return vectors(self._model, features).float()
        except torch.OutOfMemoryError:
            if len(encodings) == 1:
                raise
        torch.cuda.empty_cache()  # in pieces that are too small
        middle = len(encodings) // 2
        return torch.cat([self._pass(encodings[:middle]), self._pass(encodings[middle:])])


def passes(lengths: "np.ndarray[tuple[int], np.dtype[np.int64]]", budget: int) -> list[list[int]]:
    """Group rows of like length, longest first, so that no group is over the budget of padded tokens."""
    groups: list[list[int]] = []
    room = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        if not room:
            room = max(1, budget // max(1, int(lengths[row])))
            groups.append([])
        groups[-1].append(row)
        room -= 1
    return groups
