"""Makes the export of a captioning model.

A model of the BLIP family becomes two graphs: one that looks at pictures, and one that reads a word. It passes the gate
in a precision where, reading the captions that torch finds in float32, it would go on with the same word everywhere, or
with one that torch finds as likely.
"""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BlipForConditionalGeneration, GenerationConfig

from homelab_ai.captioning.engines import probes
from homelab_ai.captioning.engines.openvino import (
    COMPRESSED_DECODER,
    DECODER,
    TOKENIZER,
    VISION,
    Facts,
    OpenVinoCaptions,
    fitted,
    precisions,
    read_aloud,
)
from homelab_ai.captioning.engines.pixels import Pixels
from homelab_ai.captioning.engines.torch import processor_of
from homelab_ai.models.engines.compressing import compress
from homelab_ai.models.engines.exporting import NotPossibleError, converted, judged, say
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.engines.openvino_runtime import ov

AS_LIKELY = 0.9
"""A word of at least so many times the probability of the likeliest may stand in its place."""
_TOKENS = 16
_SENTENCES = ("a man's hand on a dog's head, isn't it? we've seen: they're old!", "a sign that says ' no parking . '")
"""What is written in another way than it is read."""
_SAME_PIXEL = 0.05
"""In what the model takes for the brightness of a pixel. A step of one in 255 is 0.015, and libraries round."""
_SAYS_NOTHING = {
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "pad_token_id",
    "max_length",
    "max_new_tokens",
    "num_beams",
    "do_sample",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "return_dict_in_generate",
    "transformers_version",
    "_from_model_config",
}
"""Of a model's settings for generation, those that a request sets, or that do not change what is said."""


_USUAL = {
    "diversity_penalty": 0.0,
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
}
"""Of the others, what older versions of transformers wrote into every configuration, and what changes nothing."""
_KNOWN = frozenset(vars(GenerationConfig()))


class _Vision(torch.nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """From pictures (images, height, width, 3), 0 to 255, to keys and values for the decoder's attention to them."""

    def __init__(self, model: BlipForConditionalGeneration, factor: torch.Tensor, offset: torch.Tensor) -> None:
        super().__init__()
        self._tower = model.vision_model
        self._attentions = torch.nn.ModuleList(
            layer.crossattention.self for layer in model.text_decoder.bert.encoder.layer
        )
        self._factor, self._offset = factor, offset

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pixels = pictures.permute(0, 3, 1, 2).float() * self._factor + self._offset
        seen = self._tower(pixel_values=pixels)[0]
        keys = [_heads(each.key(seen), each).permute(0, 2, 3, 1) for each in self._attentions]
        values = [_heads(each.value(seen), each).transpose(1, 2) for each in self._attentions]
        return (*keys, *values)


class _Decoder(torch.nn.Module):  # type: ignore[misc]
    """From one word of each row to the scores of the next, with the past as arguments.

    Written out, for what transformers does with a cache is no graph: `BlipTextLMHeadModel` for one position. Texts of
    one image are taken for positions where they attend to it, so that what was seen is there once for all of them.
    """

    def __init__(self, model: BlipForConditionalGeneration) -> None:
        super().__init__()
        self._embeddings = model.text_decoder.bert.embeddings
        self._layers = model.text_decoder.bert.encoder.layer
        self._head = model.text_decoder.cls

    def forward(
        self,
        ids: torch.Tensor,
        position: torch.Tensor,
        mask: torch.Tensor,
        past_keys: torch.Tensor,
        past_values: torch.Tensor,
        *seen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        words = self._embeddings.word_embeddings(ids) + self._embeddings.position_embeddings(position)
        states = self._embeddings.LayerNorm(words)
        new_keys, new_values = [], []
        depth = len(self._layers)
        every = zip(self._layers, past_keys, past_values, seen[:depth], seen[depth:], strict=True)
        for layer, earlier_keys, earlier_values, picture_keys, picture_values in every:
            own = layer.attention.self
            query, key, value = (
                _heads(part(states), own).flatten(0, 1).unsqueeze(2) for part in (own.query, own.key, own.value)
            )
            new_keys.append(key.squeeze(2))
            new_values.append(value.squeeze(2))
            scores = _scaled(query) @ torch.cat([earlier_keys, key], dim=2).transpose(2, 3) + mask
            context = torch.softmax(scores, dim=-1) @ torch.cat([earlier_values, value], dim=2)
            states = layer.attention.output(context.reshape(states.shape), states)
            other = layer.crossattention.self
            scores = _scaled(_heads(other.query(states), other).transpose(1, 2)) @ picture_keys
            context = torch.softmax(scores, dim=-1) @ picture_values
            states = layer.crossattention.output(context.transpose(1, 2).reshape(states.shape), states)
            states = layer.feed_forward_chunk(states)
        return self._head(states), torch.stack(new_keys), torch.stack(new_values)


def _heads(states: torch.Tensor, attention: torch.nn.Module) -> torch.Tensor:
    return states.unflatten(-1, (attention.num_attention_heads, attention.attention_head_size))


def _scaled(query: torch.Tensor) -> torch.Tensor:
    return query * query.shape[-1] ** -0.5


def export(folder: Path, where: Path, revision: str | None) -> Export:
    """Write graphs and tokenizer of the model in `folder` to `where`. Raises `NotPossibleError`."""
    model = BlipForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, weights_only=True
    ).eval()
    _check_generation(model)
    processor = processor_of(folder)
    facts, factor, offset = _facts(model, processor)
    pictures = probes.pictures()
    with torch.inference_mode():
        expected = [_said(model, processor, picture, min(_TOKENS, facts.positions)) for picture in pictures]
        example = torch.zeros(1, facts.size, facts.size, 3, dtype=torch.uint8)
        vision = _Vision(model, factor, offset)
        seen = vision(example)
    graph = converted(vision, (example,))
    graph.reshape([-1, *example.shape[1:]])
    ov.save_model(graph, where / VISION, compress_to_fp16=False)
    layers, heads, width = len(seen) // 2, seen[0].shape[1], seen[0].shape[2]
    words = min(3, facts.positions - 1)
    past = torch.zeros(layers, 1, heads, words, width)
    word = (torch.tensor([[facts.begin]]), torch.tensor([words]), torch.zeros(words + 1))
    graph = converted(_Decoder(model), (*word, past, past, *seen))
    ov.save_model(graph, where / DECODER, compress_to_fp16=False)
    compress(graph)
    ov.save_model(graph, where / COMPRESSED_DECODER, compress_to_fp16=False)
    _save_tokenizer(processor.tokenizer, where / TOKENIZER, tidy=facts.tidy)
    del graph, model, processor, vision, seen
    gc.collect()  # what follows needs the room

    def judge(precision: str) -> tuple[float, bool]:
        engine = OpenVinoCaptions(where, facts, precision, deadline_seconds=60)
        least = min(
            _agreement(engine, picture, scores, facts) for picture, scores in zip(pictures, expected, strict=True)
        )
        say(f"{precision}: least likelihood of a word {least:.4f}")
        return least, least >= AS_LIKELY

    return Export(revision, None, judged(where, precisions(), judge), vars(facts))


def _check_generation(model: BlipForConditionalGeneration) -> None:
    """Refuse a model that is not to say the likeliest. Only the settings of its decoder count: it is what generates."""
    settings = model.text_decoder.generation_config.to_diff_dict()
    unusual = [
        name
        for name, value in settings.items()
        if name in _KNOWN and name not in _SAYS_NOTHING and value and value != _USUAL.get(name)
    ]
    if unusual:
        raise NotPossibleError(f"it generates by {', '.join(sorted(unusual))}")


def _facts(model: BlipForConditionalGeneration, processor: Any) -> tuple[Facts, torch.Tensor, torch.Tensor]:
    """Return what the engine has to know, and factor and offset that make of a pixel what the model looks at."""
    images, text = processor.image_processor, model.config.text_config
    size = model.config.vision_config.image_size
    if not (images.do_resize and images.do_rescale and images.do_normalize):
        raise NotPossibleError("its preprocessing is another than BLIP's")
    facts = Facts(
        size=size,
        resample=int(images.resample),
        begin=text.bos_token_id,
        end=text.sep_token_id,
        positions=text.max_position_embeddings,
        tidy=bool(getattr(processor.tokenizer, "clean_up_tokenization_spaces", False)),
    )
    mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in (images.image_mean, images.image_std))
    factor, offset = images.rescale_factor / deviation, -mean / deviation
    for picture in probes.pictures():
        theirs = processor(images=[picture], return_tensors="pt")["pixel_values"]
        ours = torch.tensor(fitted(picture, facts)[None]).permute(0, 3, 1, 2) * factor + offset
        if ours.shape != theirs.shape or (ours - theirs).abs().max() > _SAME_PIXEL:
            raise NotPossibleError("its preprocessing is another than BLIP's")
    return facts, factor, offset


def _save_tokenizer(tokenizer: Any, file: Path, *, tidy: bool) -> None:
    """Save how tokens become a text. Raises `NotPossibleError` where transformers makes another text of them."""
    if not getattr(tokenizer, "is_fast", False):
        raise NotPossibleError("its tokenizer is not one of the fast ones")
    tokenizer.backend_tokenizer.save(str(file))
    some = np.random.default_rng(3).integers(0, len(tokenizer), (200, _TOKENS)).tolist()
    some += [tokenizer(sentence)["input_ids"] for sentence in _SENTENCES]
    if read_aloud(Tokenizer.from_file(str(file)), some, tidy=tidy) != tokenizer.batch_decode(
        some, skip_special_tokens=True
    ):
        raise NotPossibleError("its tokenizer does more than can be saved")


def _said(model: BlipForConditionalGeneration, processor: Any, picture: Pixels, tokens: int) -> "np.ndarray[Any, Any]":
    """Return the probabilities of every word at each place of the caption of a picture (places, words)."""
    inputs = processor(images=[picture], return_tensors="pt")
    said = model.generate(
        pixel_values=inputs["pixel_values"],
        max_new_tokens=tokens,
        do_sample=False,
        num_beams=1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return np.asarray(torch.softmax(torch.cat(said.logits).double(), dim=-1).float())


def _agreement(engine: OpenVinoCaptions, picture: Pixels, expected: "np.ndarray[Any, Any]", facts: Facts) -> float:
    """Read the caption that torch found, whose probabilities these are.

    Returns how likely torch finds the words that the engine would go on with, at the least, beside the likeliest.
    """
    step, token, least = engine.reading([picture]), facts.begin, 1.0
    for likelihood in expected:
        chosen = int(step(np.array([[token]]), None).argmax())
        token = int(likelihood.argmax())
        least = min(least, float(likelihood[chosen] / likelihood[token]))
    return least
