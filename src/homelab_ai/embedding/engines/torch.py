"""The embedding engine on torch: any sentence-transformers model, on a GPU or the CPU.

Imported only inside a model host. The whole pipeline of the model (pooling, dense layers, normalization) is
sentence-transformers' own, so the vectors are those of `SentenceTransformer.encode`. What is ours is what a service
needs around it: packing by a token budget, and saying which texts were cut.
"""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from sentence_transformers import SentenceTransformer

from homelab_ai.embedding.engines.identity import fingerprint
from homelab_ai.embedding.engines.windows import CHARACTERS_AT_MOST, CHARACTERS_PER_TOKEN, TOKENS_AROUND_A_CUT
from homelab_ai.models.engines import torch_device
from homelab_ai.models.hosts.engine import LoadError

# Padded tokens in one forward pass. Larger passes lose more to padding than they win on a CPU, and their memory is
# what makes a host grow.
_TOKENS_PER_PASS = 4096

Counts = np.ndarray[tuple[int], np.dtype[np.int64]]


def pipeline(folder: Path, device: str, dtype: torch.dtype) -> SentenceTransformer:
    """Load a model of whatever origin: none of its code is run, and nothing is fetched from anywhere."""
    return SentenceTransformer(
        str(folder),
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        # Said here as well because a model's own configuration may say otherwise.
        model_kwargs={"dtype": dtype, "weights_only": True},
    )


class TorchEmbeddings:
    """One sentence-transformers model."""

    def __init__(self, folder: Path, options: dict[str, Any], reason: str | None = None) -> None:
        """`reason` says why it is not an export that runs the model."""
        self._reason = reason
        precision = "float32" if options["precision"] == "auto" else options["precision"]
        self._model = pipeline(folder, torch_device.chosen(options["device"]), getattr(torch, precision))
        window = self._model.max_seq_length
        self._window = window if isinstance(window, int) else None  # static embeddings have none
        if options["max_length"]:
            if not self._window or options["max_length"] > self._window:
                raise LoadError(f"max_length is {options['max_length']}, but the model's window is {self._window}")
            self._model.max_seq_length = self._window = options["max_length"]
        self._takes_more_than_text = set(self._model.modalities) != {"text"}
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "")
        self._dimensions = int(self._embed(["dimensions"]).shape[1])
        if options["dimensions"] not in (None, self._dimensions):
            raise LoadError(
                f"the configuration says {options['dimensions']} dimensions, but the model has {self._dimensions}"
            )

        exact = self._model.dtype is torch.float32
        self._fingerprint = fingerprint(folder, dimensions=self._dimensions, window=self._window, exact=exact)

    def describe(self) -> dict[str, Any]:
        """Dimensions, window in tokens, and what it runs on."""
        return {
            "backend": "torch",
            "backend_reason": self._reason,
            "device": str(self._model.device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            "dimensions": self._dimensions,
            "max_length": self._window,
            "fingerprint": self._fingerprint,
            "gpu_memory_bytes": torch_device.gpu_memory(self._model.device),
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], memoryview]:  # noqa: ARG002 - has none
        """Embed the texts in `body`, a JSON list.

        Answers the positions of the texts that were longer than the model's window, and a C-contiguous float32
        matrix, one row a text, in the order of the texts.
        """
        texts, lengths = self._measured(orjson.loads(body))
        truncated = np.flatnonzero(lengths > self._window).tolist() if self._window else []
        matrix = np.empty((len(texts), self._dimensions), dtype=np.float32)
        for rows in _passes(np.minimum(lengths, self._window or lengths)):
            matrix[rows] = self._embed([texts[row] for row in rows])
        return {"shape": matrix.shape, "truncated": truncated}, matrix.data.cast("B")

    def _embed(self, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        # A model that takes pictures too would fetch what a text that looks like their address points to.
        inputs: list[Any] = [{"text": text} for text in texts] if self._takes_more_than_text else list(texts)
        vectors = self._model.encode(inputs, batch_size=len(inputs), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, dtype=np.float32)

    def _measured(self, texts: list[str]) -> tuple[list[str], Counts]:
        """Return the texts, without what lies far beyond the window, and how many tokens each has.

        To tokenize all of a book for the sake of its first page would take minutes and gigabytes, so a long text is
        judged by its beginning. Where that is short in tokens, as spaces are and single words of a million letters, a
        million characters are looked at; what is longer still counts as one token more than the window.
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


def _passes(lengths: Counts) -> list[list[int]]:
    """Group rows of like length, longest first, so that no group is over the budget of padded tokens."""
    groups: list[list[int]] = []
    room = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        if not room:
            room = max(1, _TOKENS_PER_PASS // max(1, int(lengths[row])))
            groups.append([])
        groups[-1].append(row)
        room -= 1
    return groups
