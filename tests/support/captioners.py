"""Small captioners with random weights, and what plain transformers makes of images with them, for comparison.

Run as a program, in a process of its own: `python captioners.py make FOLDER` or `caption FOLDER WISHES IMAGE...`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *(f"word{number}" for number in range(40))]


def make(folder: Path) -> None:
    """Make `blip` and `llava` in that folder."""
    _run("make", str(folder))


def captions(folder: Path, *images: Path, max_new_tokens: int = 12, num_beams: int = 1) -> list[str]:
    """What a BLIP of plain transformers says of each image in float32."""
    wishes = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
    answer: list[str] = json.loads(_run("caption", str(folder), json.dumps(wishes), *map(str, images)))
    return answer


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=True,
        timeout=100,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _make(folder: Path) -> None:
    import torch  # noqa: PLC0415 - in the child only
    import transformers as hf  # noqa: PLC0415 - in the child only
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - in the child only

    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 2}
    blip = folder / "blip"
    blip.mkdir(parents=True)
    (blip / "vocab.txt").write_text("\n".join(WORDS))
    special = {"bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 64, **small, **heads, **special}
    config = hf.BlipConfig(vision_config={"image_size": 64, "patch_size": 16, **small, **heads}, text_config=text)
    model = hf.BlipForConditionalGeneration(config)
    model.text_decoder.cls.predictions.bias.data[special["sep_token_id"]] = -50  # it never ends by itself
    model.save_pretrained(blip)
    tokenizer = hf.BertTokenizerFast(str(blip / "vocab.txt"))
    hf.BlipProcessor(hf.BlipImageProcessor(size={"height": 64, "width": 64}), tokenizer).save_pretrained(blip)

    words = ["<pad>", "<unk>", "<s>", "</s>", "<image>", *WORDS[7:]]
    level = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=level, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tower = hf.CLIPVisionConfig(image_size=32, patch_size=8, **small, **heads)
    language = hf.LlamaConfig(
        vocab_size=len(words), num_key_value_heads=2, pad_token_id=0, bos_token_id=2, eos_token_id=3, **small, **heads
    )
    llava = hf.LlavaConfig(vision_config=tower, text_config=language, image_token_index=4, vision_feature_layer=-1)
    hf.LlavaForConditionalGeneration(llava).save_pretrained(folder / "llava")
    template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
        "{% endfor %}{% endfor %}"
    )
    hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder / "llava")


def _caption(folder: Path, wishes: dict[str, int], images: list[str]) -> list[str]:
    import torch  # noqa: PLC0415 - in the child only
    import transformers as hf  # noqa: PLC0415 - in the child only
    from PIL import Image  # noqa: PLC0415 - in the child only

    processor = hf.AutoProcessor.from_pretrained(folder)
    model = hf.BlipForConditionalGeneration.from_pretrained(folder).eval()
    said: list[str] = []
    for image in images:
        inputs = processor(images=Image.open(image).convert("RGB"), return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs, **wishes)
        said += processor.batch_decode(ids, skip_special_tokens=True)
    return said


if __name__ == "__main__":
    command, where, *rest = sys.argv[1:]
    if command == "make":
        _make(Path(where))
    else:
        print(json.dumps(_caption(Path(where), json.loads(rest[0]), rest[1:])))
