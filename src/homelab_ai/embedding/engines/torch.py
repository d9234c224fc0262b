"""The embedding engine on torch: any sentence-transformers model, on a GPU or the CPU.

Imported only inside a model host. The whole pipeline of the model (pooling, dense layers, normalization) is
sentence-transformers' own, so the vectors are those of `SentenceTransformer.encode`. What is ours is what a service
needs around it: packing by a token budget, saying which texts were cut, and half precision where it is as good.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from homelab_ai.embedding.engines import gate, plain, probes
from homelab_ai.embedding.engines.encode import AnyModel
from homelab_ai.embedding.engines.identity import fingerprint
from homelab_ai.embedding.engines.plain import PlainTransformer
from homelab_ai.models.engines import torch_device
from homelab_ai.models.hosts.engine import LoadError

_HALVES = (torch.float16, torch.bfloat16)
"""The first has more digits, the second more room for large numbers, which some models need."""

_NOT_NEEDED = "pooler."
"""BERT's own, which pooling by sentence-transformers does not look at, and which many models come without."""


def pipeline(folder: Path, device: str, dtype: torch.dtype | str) -> SentenceTransformer:
    """Load a model of whatever origin: none of its code is run, and nothing is fetched from anywhere.

    Raises `LoadError` for one that is made for something else, such as describing images.
    """
    model = SentenceTransformer(
        str(folder),
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        # Said here as well because a model's own configuration may say otherwise.
        model_kwargs={"dtype": dtype, "weights_only": True},
    ).eval()
    if invented := _invented(model):
        raise LoadError(f"it makes no vectors of texts: {len(invented)} weights that this takes are not in its files")
    return model


def _invented(model: SentenceTransformer) -> list[str]:
    """The weights that transformers has not found: it draws those at random, and so would be the vectors.

    Which they are it notes on the others. Where it has marked none (on a device for which they were made anew, or in a
    version that notes it elsewhere) nothing is known.
    """
    weights = [
        (name, getattr(weight, "_is_hf_initialized", False))
        for module in model.modules()
        if isinstance(module, Transformer)
        for name, weight in module.auto_model.named_parameters()
    ]
    if not any(found for _, found in weights):
        return []
    return [name for name, found in weights if not found and _NOT_NEEDED not in name]


class TorchEmbeddings:
    """One sentence-transformers model."""

    def __init__(self, folder: Path, options: Mapping[str, Any], reason: str | None = None) -> None:
        """`reason` says why it is not an export that runs the model."""
        self._folder = folder
        self._reason = reason
        self._device = torch_device.chosen(options["device"])
        self._max_length = options["max_length"]
        on_gpu, automatic = self._device.startswith("cuda"), options["precision"] == "auto"
        # On a GPU, what is published in half precision stays as it is: that may be all that there is room for.
        self._load("auto" if automatic and on_gpu else "float32" if automatic else options["precision"])
        if options["dimensions"] not in (None, self._embeds.dimensions):
            raise LoadError(
                f"the configuration says {options['dimensions']} dimensions, but the model has "
                f"{self._embeds.dimensions}"
            )
        exact = self._model.dtype is torch.float32
        if automatic and on_gpu and exact:
            self._halve()
        self._fingerprint = fingerprint(folder, dimensions=self._embeds.dimensions, window=self._window, exact=exact)

    def _load(self, precision: str | torch.dtype) -> None:
        if isinstance(precision, str) and precision != "auto":
            precision = getattr(torch, precision)
        self._model = pipeline(self._folder, self._device, precision)
        window = self._model.max_seq_length
        self._window = window if isinstance(window, int) else None  # static embeddings have none
        if self._max_length and (not self._window or self._max_length > self._window):
            raise LoadError(f"max_length is {self._max_length}, but the model's window is {self._window}")
        self._window = self._max_length or self._window
        self._embeds: PlainTransformer | AnyModel
        try:
            tokenizer, facts = plain.about(self._model)
            self._embeds = PlainTransformer(self._model, tokenizer, facts, self._window or facts.window)
        except plain.NotPlainError:
            self._embeds = AnyModel(self._model, self._window)

    def _halve(self) -> None:
        """Go over to half precision, which is twice as fast on a GPU and takes half the room, if that passes the gate.

        The model is loaded anew: one that is converted has tables in half precision that are to stay exact.
        """
        texts = probes.texts(self._window or probes.LONGEST)
        expected = self._embeds.embed(texts).matrix
        for dtype in (*_HALVES, torch.float32):
            self._load(dtype)
            if dtype is torch.float32 or gate.judge(self._embeds.embed(texts).matrix, expected)[1]:
                break
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """Dimensions, window in tokens, and what it runs on."""
        return {
            "backend": "torch",
            "backend_reason": self._reason,
            "device": str(self._model.device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            "dimensions": self._embeds.dimensions,
            "max_length": self._window,
            "fingerprint": self._fingerprint,
            "gpu_memory_bytes": torch_device.gpu_memory(self._model.device),
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], memoryview]:  # noqa: ARG002 - has none
        """Embed the texts in `body`, a JSON list.

        Answers the positions of the texts that were longer than the model's window, and a C-contiguous float32
        matrix, one row a text, in the order of the texts.
        """
        embedded = self._embeds.embed(orjson.loads(body))
        return embedded.answer(gpu_memory_bytes=torch_device.gpu_memory(self._model.device))
