"""The captioning engines on torch: the BLIP family, and promptable vision-language models.

Imported only inside a model host. Models are transformers' own classes with their own preprocessing and generation, so
captions are those of transformers. What is ours is what a service needs around it: the precision that the processor is
fast in, and a deadline.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BlipForConditionalGeneration,
)

from homelab_ai.captioning.engines.pixels import unpacked
from homelab_ai.models.engines import packed, torch_device
from homelab_ai.models.hosts.engine import LoadError

DEFAULT_PROMPT = "Describe this image in one sentence."


class _Captions:
    """What both kinds have in common."""

    promptable: bool

    def __init__(self, model: Any, processor: Any, options: dict[str, Any], reason: str) -> None:
        """`reason` is why it is not run by OpenVINO."""
        self._model = model
        self._processor = processor
        self._deadline_seconds = options["run_seconds"]
        self._reason = reason

    def describe(self) -> dict[str, Any]:
        """What it runs on, and whether it follows prompts."""
        return {
            "backend": "torch",
            "backend_reason": self._reason,
            "device": str(self._model.device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            "promptable": self.promptable,
            "gpu_memory_bytes": torch_device.gpu_memory(self._model.device),
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Caption the images in `body`, as `pixels.unpacked` reads them.

        `options` holds `prompt` (None or a text), `max_new_tokens` and `num_beams`. Answers `refused: "prompt"` when
        the model cannot follow one, else a JSON list of one caption for each image.
        """
        if options["prompt"] is not None and not self.promptable:
            return {"refused": "prompt"}, b""
        generation = {
            "max_new_tokens": options["max_new_tokens"],
            "num_beams": options["num_beams"],
            "do_sample": False,
            "max_time": self._deadline_seconds,
        }
        started = time.perf_counter()
        with torch.inference_mode():
            # As images, not as arrays: processors take some of those for channels first.
            images = [Image.fromarray(pixels) for pixels in unpacked(body)]
            captions = self._captions(images, options["prompt"], generation)
        seconds = {"inference": time.perf_counter() - started}
        return {"seconds": seconds}, orjson.dumps([" ".join(caption.split()) for caption in captions])

    def _captions(self, images: list[Image.Image], prompt: str | None, generation: dict[str, Any]) -> Sequence[str]:
        raise NotImplementedError


class Blip(_Captions):
    """`BlipForConditionalGeneration`: one short caption for each image."""

    promptable = False

    def __init__(self, folder: Path, options: dict[str, Any], reason: str) -> None:
        model = _loaded(BlipForConditionalGeneration, folder, options)
        super().__init__(model, processor_of(folder), options, reason)

    def _captions(self, images: list[Image.Image], prompt: str | None, generation: dict[str, Any]) -> Sequence[str]:  # noqa: ARG002 - it follows none
        inputs = self._processor(images=images, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
        positions = self._model.config.text_config.max_position_embeddings
        generation["max_new_tokens"] = min(generation["max_new_tokens"], positions)
        ids = self._model.generate(pixel_values=pixels, **generation)
        captions: list[str] = self._processor.batch_decode(ids, skip_special_tokens=True)
        return captions


class VisionLanguage(_Captions):
    """Models with a chat template that takes an image and a question: LLaVA, SmolVLM, Qwen-VL and the like."""

    promptable = True

    def __init__(self, folder: Path, options: dict[str, Any], reason: str) -> None:
        processor = processor_of(folder)
        if not getattr(processor, "chat_template", None):
            raise LoadError("it has no chat template, so there is no telling how to ask it; use another model")
        model = _loaded(AutoModelForImageTextToText, folder, options)
        super().__init__(model, processor, options, reason)

    def _captions(self, images: list[Image.Image], prompt: str | None, generation: dict[str, Any]) -> Sequence[str]:
        content = [{"type": "image"}, {"type": "text", "text": prompt or DEFAULT_PROMPT}]
        text = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        captions: list[str] = []
        for image in images:  # they differ in how many tokens they become
            inputs = self._processor(images=image, text=text, return_tensors="pt").to(self._model.device)
            for name, value in inputs.items():
                if value.is_floating_point():
                    inputs[name] = value.to(self._model.dtype)
            ids = self._model.generate(**inputs, **generation)
            answer = ids[:, inputs["input_ids"].shape[1] :]
            captions += self._processor.batch_decode(answer, skip_special_tokens=True)
        return captions


def processor_of(folder: Path) -> Any:
    """Return the preprocessing of the model in `folder`, and its tokenizer."""
    return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _loaded(model_class: Any, folder: Path, options: dict[str, Any]) -> Any:
    device = torch_device.chosen(options["device"])
    model = model_class.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        dtype=_dtype(options["precision"], device),
        weights_only=True,
    )
    model = model.to(device).eval()
    packed.pack(model)
    return model


def _dtype(precision: str, device: str) -> torch.dtype:
    """bfloat16 where the hardware calculates in it, half precision on a GPU that has none, else float32."""
    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device != "cpu":
        return torch.bfloat16 if not torch.cuda.is_available() or torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no other way
    return torch.bfloat16 if fast else torch.float32
