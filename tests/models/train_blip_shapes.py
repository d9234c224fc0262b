"""Trains `blip-shapes`: BLIP in every respect but its size, for the pictures of `shapes`.

    PYTHONPATH=tests python -m models.train_blip_shapes tests/models/blip-shapes --seed 2

Needs torch, transformers and Pillow, two cores, no GPU and twenty minutes. One seed gives one model, however
busy the machine is. What it writes is laid out as `blip-image-captioning-base`
is: whatever loads and asks the one has to be able to load and ask the other.
"""

import argparse
import io
import itertools
import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from transformers import (
    AutoProcessor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipTextConfig,
    BlipVisionConfig,
)

from models.shapes import BACKDROPS, COLORS, POSITIONS, SHAPES, SIZES, Scene, caption, draw, scenes

PIXELS, PATCH = 96, 12
WIDTH: Final = 96
BATCH: Final = 32
THREADS: Final = 1  # the other core draws; two would wait for each other wherever something else runs, too
STEPS: Final = 11_000
UNSEEN: Final = 1000
ENOUGH: Final = 0.95
PACE: Final = 1e-3

PROMPTS: Final = (
    "a picture of",
    "a photo of",
    "a photograph of",
    "a photography of",
    "an image of",
    "a drawing of",
    "this is",
    "there is",
    "the picture shows",
    "the image shows",
)
"""What a caption may be asked to begin with. The beginnings of captions themselves need no practice."""

# What anything refers to in the real vocabulary, in its order. [DEC], which every caption begins with, and [ENC] follow
# after the last word: as in the real model, the configuration knows them and the tokenizer does not.
SPECIAL: Final = ("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

IMAGE_PROCESSOR: Final = {
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "BlipImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "processor_class": "BlipProcessor",
    "size": PIXELS,
}

TOKENIZER: Final = {
    "cls_token": "[CLS]",
    "do_basic_tokenize": True,
    "do_lower_case": True,
    "mask_token": "[MASK]",
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 512,
    "never_split": None,
    "pad_token": "[PAD]",
    "processor_class": "BlipProcessor",
    "sep_token": "[SEP]",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}


def words() -> list[str]:
    """All tokens that the tokenizer knows: the words of captions and prompts, whole."""
    sentences = ("a on background", *SHAPES, *SIZES, *COLORS, *POSITIONS, *BACKDROPS, *PROMPTS)
    return [*SPECIAL, *sorted({word for sentence in sentences for word in sentence.split()})]


class Vocabulary:
    """Words to ids. Captions and prompts are of known words, so splitting at spaces is all it takes."""

    def __init__(self) -> None:
        tokens = words()
        self.ids = {token: index for index, token in enumerate(tokens)}
        self.dec = len(tokens)
        self.size = len(tokens) + 2

    def encode(self, sentence: str) -> list[int]:
        return [self.ids[word] for word in sentence.split()]


def new_model(vocabulary: Vocabulary) -> BlipForConditionalGeneration:
    text = BlipTextConfig(
        vocab_size=vocabulary.size,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=vocabulary.dec,
        eos_token_id=vocabulary.ids["[unused1]"],  # the real one's, too, is not what ends a caption: [SEP] is
        pad_token_id=vocabulary.ids["[PAD]"],
        sep_token_id=vocabulary.ids["[SEP]"],
    )
    vision = BlipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=PIXELS,
        patch_size=PATCH,
        initializer_range=0.02,
    )
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    )
    _spread(model)
    return model


def _spread(model: BlipForConditionalGeneration) -> None:
    """Begin with weights as large as the width asks for: those of a wide model leave a narrow one blind for long."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2 if "embedding" in name else parameter.shape[1] ** -0.5)
        elif "embedding" in name and parameter.ndim == 3:
            torch.nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def stored(image: Image.Image, quality: int | None) -> Image.Image:
    """The picture as it comes out of a file: JPEG where there is a quality, else PNG, which changes nothing."""
    if quality is None:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def patches(scene: Scene) -> torch.Tensor:
    """What each patch shows: nothing (0), or which shape of which size."""
    silhouette = draw(replace(scene, fill=(255, 255, 255), backdrop=(0, 0, 0), outline=None))
    side = PIXELS // PATCH
    cover = np.asarray(silhouette.convert("L").resize((side, side), Image.Resampling.BOX)).flatten()
    label = 1 + 2 * list(SHAPES).index(scene.shape) + list(SIZES).index(scene.size)
    return torch.from_numpy((cover > 255 * 0.3) * label)


Lesson = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Lessons(IterableDataset[Lesson]):  # type: ignore[misc]  # mypy does not look into torch
    """Batches without end: pixels, the ids to read, those to say, and what each patch shows. No scene comes twice."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._vocabulary = Vocabulary()
        self._image_processor = BlipImageProcessorPil(size={"height": PIXELS, "width": PIXELS})

    def __iter__(self) -> Iterator[Lesson]:
        torch.set_num_threads(1)
        dice = random.Random(f"lessons {self._seed}")
        unseen = scenes(f"training {self._seed}")
        while True:
            batch = list(itertools.islice(unseen, BATCH))
            images = [stored(draw(scene), dice.randint(75, 95) if dice.random() < 0.5 else None) for scene in batch]
            pixels = self._image_processor(images, return_tensors="pt")["pixel_values"]
            strength = torch.tensor([dice.uniform(0.0, 0.08) if dice.random() < 0.5 else 0.0 for _ in batch])
            # Noise after the reduction: before it, that of a large picture would average out.
            pixels += torch.randn_like(pixels) * strength[:, None, None, None]
            read, say = self._sentences(dice, [caption(scene) for scene in batch])
            yield pixels, read, say, torch.stack([patches(scene) for scene in batch])

    def _sentences(self, dice: random.Random, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """A third of the captions follow a prompt, which is read but need not be said, and may have unknown words."""
        read, say = [], []
        for sentence in captions:
            prompt = self._vocabulary.encode(dice.choice(PROMPTS)) if dice.random() < 0.33 else []
            prompt = [self._vocabulary.ids["[UNK]"] if dice.random() < 0.15 else token for token in prompt]
            said = [*self._vocabulary.encode(sentence), self._vocabulary.ids["[SEP]"]]
            read.append(torch.tensor([self._vocabulary.dec, *prompt, *said]))
            say.append(torch.tensor([-100] * (1 + len(prompt)) + said))
        return (
            torch.nn.utils.rnn.pad_sequence(read, batch_first=True),
            torch.nn.utils.rnn.pad_sequence(say, batch_first=True, padding_value=-100),
        )


def train(model: BlipForConditionalGeneration, *, seed: int, steps: int) -> None:
    """The rate of learning rises for a moment, then falls to nothing until the steps are done.

    From captions alone a model takes very long to find out that there is a shape to look at. So it is also asked, of
    each patch, what is to be seen there. What answers that (`eye`) is not kept.
    """
    model.train()
    eye = torch.nn.Linear(WIDTH, 1 + len(SHAPES) * len(SIZES))
    weights = [*model.parameters(), *eye.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PACE, betas=(0.9, 0.98), weight_decay=0.01)
    recent: list[float] = []
    lessons = DataLoader(Lessons(seed), batch_size=None, num_workers=1)
    for step, (pixels, read, say, shown) in enumerate(itertools.islice(lessons, steps)):
        passed = step / steps
        rate = PACE * min(1.0, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * passed))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            said = model(pixel_values=pixels, input_ids=read, labels=say)
            seen = torch.nn.functional.cross_entropy(
                eye(said.image_embeds[:, 1:]).float().flatten(0, 1), shown.flatten(), reduction="none"
            )
        something = shown.flatten() > 0
        loss = said.loss + 0.3 * (seen[something].mean() + seen[~something].mean())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        recent.append(said.loss.item())
        if step % 100 == 99:
            print(f"{passed:4.0%}  step {step + 1}  loss {sum(recent) / len(recent):.4f}", flush=True)
            recent.clear()
    model.eval()


def save(model: BlipForConditionalGeneration, vocabulary: Vocabulary, folder: Path) -> None:
    """In the layout of the real model: `save_pretrained` of a processor would write that of a later time."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in words()))
    _write(folder / "preprocessor_config.json", IMAGE_PROCESSOR)
    _write(folder / "tokenizer_config.json", TOKENIZER)
    names = ("cls_token", "mask_token", "pad_token", "sep_token", "unk_token")
    _write(folder / "special_tokens_map.json", {name: TOKENIZER[name] for name in names})
    fast = AutoProcessor.from_pretrained(folder, local_files_only=True).tokenizer
    fast.backend_tokenizer.save(str(folder / "tokenizer.json"))
    for file in folder.iterdir():
        file.chmod(0o644)
        if file.suffix == ".json":
            file.write_text(file.read_text().rstrip("\n") + "\n")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def evaluate(folder: Path, *, seed: int) -> dict[str, float]:
    """Which share of unseen scenes the saved model describes exactly, by what it is asked and how they are stored."""
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    unseen = list(itertools.islice(scenes(f"unseen {seed}"), UNSEEN))
    shares = {}
    for name, prompt, quality in (
        ("PNG", None, None),
        ("JPEG at quality 75", None, 75),
        ("PNG, a picture of", "a picture of", None),
        ("PNG, a", "a", None),
    ):
        right = 0
        for start in range(0, UNSEEN, BATCH):
            batch = unseen[start : start + BATCH]
            images = [stored(draw(scene), quality) for scene in batch]
            text = {} if prompt is None else {"text": [prompt] * len(images)}
            inputs = processor(images=images, return_tensors="pt", **text)
            said = processor.batch_decode(model.generate(**inputs, max_new_tokens=20), skip_special_tokens=True)
            begin = f"{prompt} " if prompt not in {None, "a"} else ""
            right += sum(sentence == begin + caption(scene) for sentence, scene in zip(said, batch, strict=True))
        shares[name] = right / len(unseen)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(arguments.seed)
    vocabulary = Vocabulary()
    model = new_model(vocabulary)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    train(model, seed=arguments.seed, steps=arguments.steps)
    save(model, vocabulary, arguments.folder)
    shares = evaluate(arguments.folder, seed=arguments.seed)
    for name, share in shares.items():
        print(f"{share:.1%} of {UNSEEN} unseen scenes described exactly ({name})")
    if min(shares.values()) < ENOUGH:
        sys.exit(f"not good enough: {ENOUGH:.0%} are asked for")


if __name__ == "__main__":
    main()
