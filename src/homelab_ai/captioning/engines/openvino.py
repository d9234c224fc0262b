"""The captioning engine on OpenVINO: exported models of the BLIP family on the CPU, without torch.

Imported only inside a model host. An export is two graphs. One looks at pictures: the vision tower, and the keys and
values of every layer of the decoder that attends to what it saw, which are the same for each word. The other reads one
word at a time. Between the words, what the decoder remembers of those before lies in arrays of ours.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image
from tokenizers import Tokenizer

from homelab_ai.captioning.engines.generation import Ids, Limits, Scores, Tokens, generate
from homelab_ai.captioning.engines.pixels import Pixels, unpacked
from homelab_ai.models.engines import openvino_runtime
from homelab_ai.models.engines.openvino_runtime import ov

VISION, DECODER, TOKENIZER = "vision.xml", "decoder.xml", "tokenizer.json"
COMPRESSED_DECODER = "decoder-int8.xml"
"""The same with its weights in 8 bits: to read a word takes as long as to read them."""
COMPRESSED = "/int8"
"""What a precision ends with in which that one is used."""

_PICTURES_PER_PASS = 4
"""Of the vision tower: two cores divide four among them better than one."""
_ROWS_AT_A_TIME = 16
"""Of the decoder, which remembers of each all words that it has read: of a large model, 40 kB a word."""
_FIRST_WORDS = 16
"""For how many words there is room at first. It is doubled when they are used up: OpenVINO keeps something for every
shape that it sees."""

_OF_A_WORD = 3
"""So many inputs of the decoder are of the word that it reads: its token, its position, and which words it sees."""
_UNTIDY = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""In that order."""
_KINDS = {ov.Type.bf16: np.uint16, ov.Type.f32: np.float32}

Memory = np.ndarray[Any, Any]
"""Keys or values as they are calculated with; bfloat16, which NumPy does not have, as integers of 16 bits."""


@dataclass(frozen=True)
class Facts:
    """What an export says of its model."""

    size: int
    """Width and height of the pictures that it looks at, in pixels."""
    resample: int
    """How others are made so large: a filter of Pillow's."""
    begin: int
    """The token that a caption begins with."""
    end: int
    """The token that ends it."""
    positions: int
    """How many words the decoder can tell the places of."""
    tidy: bool
    """Whether the spaces are taken out again that tokens have around punctuation."""


class OpenVinoCaptions:
    """One exported model."""

    def __init__(self, folder: Path, facts: Facts, precision: str, deadline_seconds: float) -> None:
        self._facts = facts
        self._precision = precision
        self._deadline_seconds = deadline_seconds
        self._vision_seconds = 0.0
        """Of the run under way, for looking at pictures."""
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        calculated = precision.removesuffix(COMPRESSED)
        self._stored = ov.Type.bf16 if calculated == "bfloat16" else ov.Type.f32
        graphs = VISION, (DECODER if precision == calculated else COMPRESSED_DECODER)
        vision, decoder = (openvino_runtime.read(folder / each) for each in graphs)
        self._vision_graph = _with_memory_as(self._stored, vision, inputs=range(0), outputs=range(len(vision.outputs)))
        decoder = _with_memory_as(
            self._stored,
            decoder,
            inputs=range(_OF_A_WORD, len(decoder.inputs)),
            outputs=range(1, len(decoder.outputs)),
        )
        self._vision, self._decoder = (
            openvino_runtime.compiled(graph, calculated, streams=1).create_infer_request()
            for graph in (self._vision_graph, decoder)
        )
        self.captions([np.zeros((1, 1, 3), np.uint8)], tokens=1)  # it packs the weights with its first picture
        for graph in graphs:
            openvino_runtime.forget(folder / graph.replace(".xml", ".bin"))

    def describe(self) -> dict[str, Any]:
        """What it runs on, and that it follows no prompts."""
        return {
            "backend": "openvino",
            "device": "cpu",
            "precision": self._precision,
            "promptable": False,
            "gpu_memory_bytes": 0,
        }

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Caption the images in `body`, as `pixels.unpacked` reads them.

        `options` holds `prompt` (None or a text), `max_new_tokens` and `num_beams`. Answers `refused: "prompt"` where
        there is a prompt, else a JSON list of one caption for each image.
        """
        if options["prompt"] is not None:
            return {"refused": "prompt"}, b""
        started = time.perf_counter()
        self._vision_seconds = 0.0
        found = self.captions(
            unpacked(body),
            tokens=options["max_new_tokens"],
            beams=options["num_beams"],
            deadline=time.monotonic() + self._deadline_seconds,
        )
        inference = time.perf_counter() - started
        captions = read_aloud(self._tokenizer, [[self._facts.begin, *each] for each in found], tidy=self._facts.tidy)
        header = {
            "tokens": sum(map(len, found)),
            "seconds": {
                "inference": inference,
                "vision": self._vision_seconds,
                "generation": inference - self._vision_seconds,
            },
        }
        return header, orjson.dumps([" ".join(caption.split()) for caption in captions])

    def captions(
        self, images: Sequence[Pixels], *, tokens: int, beams: int = 1, deadline: float = float("inf")
    ) -> list[Tokens]:
        """Return the tokens of a caption for each image."""
        limits = Limits(self._facts.end, min(tokens, self._facts.positions), deadline)
        count, found = max(1, _ROWS_AT_A_TIME // beams), list[Tokens]()
        for start in range(0, len(images), count):
            some = images[start : start + count]
            found += generate(self.reading(some), len(some), self._facts.begin, limits, beams)
        return found

    def reading(self, images: Sequence[Pixels]) -> "_Reading":
        """Look at images, and return how captions of them go on: a `generation.Step`."""
        return _Reading(self._decoder, self._seen(images), self._stored)

    def _seen(self, images: Sequence[Pixels]) -> list[Memory]:
        """Return what the decoder attends to in images.

        Keys (images, heads, width, places) of each of its layers, then values (images, heads, places, width) of each.
        """
        started = time.perf_counter()
        seen = [
            np.empty((len(images), *(each.get_length() for each in port.partial_shape[1:])), _KINDS[self._stored])
            for port in self._vision_graph.outputs
        ]
        for start in range(0, len(images), _PICTURES_PER_PASS):
            some = slice(start, start + _PICTURES_PER_PASS)
            pictures = np.stack([fitted(image, self._facts) for image in images[some]])
            self._vision.set_input_tensor(ov.Tensor(pictures, shared_memory=True))
            for number, array in enumerate(seen):
                self._vision.set_output_tensor(number, _tensor(array[some], self._stored))
            self._vision.infer()
        self._vision_seconds += time.perf_counter() - started
        return seen


class _Reading:
    """One run of the decoder: called with the words to be read next, it answers the scores of those that follow.

    Rows are the texts that are followed at a time, the same number for each image. The past is kept as
    (layers, rows of all images, heads, room for words, width): keys, and values.
    """

    def __init__(self, decoder: "ov.InferRequest", seen: list[Memory], stored: "ov.Type") -> None:
        self._decoder = decoder
        self._seen = seen
        self._stored = stored
        self._read = 0
        self._past: list[Memory] = []

    def __call__(self, ids: Ids, parents: Ids | None) -> Scores:
        self._make_room(ids.size)
        if parents is not None:
            # The rows of one image lie next to each other.
            order = (parents + np.arange(len(parents))[:, None] * parents.shape[1]).ravel()
            for layer in (layer for past in self._past for layer in past):
                layer[:, :, : self._read] = layer[order, :, : self._read]
        mask = np.full(self._past[0].shape[3] + 1, -np.inf, dtype=np.float32)
        mask[: self._read] = mask[-1] = 0  # what was read so far, and the word itself, which comes last
        tensors = [
            *(ov.Tensor(each, shared_memory=True) for each in (ids, np.array([self._read]), mask)),
            *(_tensor(each, self._stored) for each in (*self._past, *self._seen)),
        ]
        self._decoder.set_input_tensors(dict(enumerate(tensors)))
        self._decoder.infer()
        for number, past in enumerate(self._past, start=1):
            past[:, :, :, self._read] = _array(self._decoder.get_output_tensor(number))
        self._read += 1
        return np.array(self._decoder.get_output_tensor(0).data)

    def _make_room(self, rows: int) -> None:
        if not self._past:
            _, heads, width, _ = self._seen[0].shape
            shape = (len(self._seen) // 2, rows, heads, _FIRST_WORDS, width)
            self._past = [np.zeros(shape, self._seen[0].dtype) for _ in range(2)]
        elif self._read == self._past[0].shape[3]:
            self._past = [np.concatenate([past, np.zeros_like(past)], axis=3) for past in self._past]


def precisions() -> list[str]:
    """Return what an export may be used in on this processor, the fastest first."""
    return [each + words for each in openvino_runtime.precisions() for words in (COMPRESSED, "")]


def read_aloud(tokenizer: Tokenizer, tokens: Sequence[Tokens], *, tidy: bool) -> list[str]:
    """Return captions as texts, tidied as transformers does it where `clean_up_tokenization_spaces` is set."""
    captions: list[str] = tokenizer.decode_batch(tokens, skip_special_tokens=True)
    for untidy in _UNTIDY if tidy else ():
        captions = [caption.replace(untidy, untidy.strip()) for caption in captions]
    return captions


def fitted(image: Pixels, facts: Facts) -> Pixels:
    """Return an image as large as the model wants it, which is all that is done to it outside the graph."""
    return np.asarray(Image.fromarray(image).resize((facts.size, facts.size), Image.Resampling(facts.resample)))


def _with_memory_as(stored: "ov.Type", graph: "ov.Model", *, inputs: range, outputs: range) -> "ov.Model":
    """Have a graph take and give keys and values in the precision that it calculates in.

    To convert them for every word would take longer than the word.
    """
    steps = ov.preprocess.PrePostProcessor(graph)
    for number in inputs:
        steps.input(number).tensor().set_element_type(stored)
    for number in outputs:
        steps.output(number).tensor().set_element_type(stored)
    return steps.build()


def _array(tensor: "ov.Tensor") -> Memory:
    array: Memory = tensor.data.view(_KINDS[tensor.element_type])
    return array


def _tensor(array: Memory, stored: "ov.Type") -> "ov.Tensor":
    """A tensor that shares the memory of an array."""
    assert array.flags.c_contiguous
    return ov.Tensor(array, ov.Shape(array.shape), stored)
