"""The peer of the captioning figures: plain transformers in float32, in a process of its own, as in BLIP's model card.

    python -m benchmarks.caption_peer FOLDER IMAGE

First makes a model of the shape of blip-image-captioning-base in that folder. Its weights are random, and it never ends
a caption by itself, so that every caption has as many tokens as are asked for. Then reads one number of images a line,
captions so many copies of the image at once, and answers with the seconds that it took.
"""

import json
import sys
import time
import warnings
from pathlib import Path

TOKENS = 16
_WORDS = 30_522


def main() -> None:
    """Make the model, load it, then caption as often as is asked."""
    folder, image_file = Path(sys.argv[1]), Path(sys.argv[2])
    warnings.filterwarnings("ignore")
    _make(folder)

    import torch  # noqa: PLC0415 - after the model was made, as in a program of its own
    from PIL import Image  # noqa: PLC0415
    from transformers import AutoProcessor, BlipForConditionalGeneration  # noqa: PLC0415

    processor = AutoProcessor.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = BlipForConditionalGeneration.from_pretrained(folder).to(device)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        count = json.loads(line)
        started = time.perf_counter()
        images = [Image.open(image_file).convert("RGB") for _ in range(count)]
        with torch.inference_mode():
            inputs = processor(images=images, return_tensors="pt").to(device)
            ids = model.generate(**inputs, max_new_tokens=TOKENS)
        processor.batch_decode(ids, skip_special_tokens=True)
        assert ids.shape == (count, 1 + TOKENS)
        print(json.dumps(time.perf_counter() - started), flush=True)


def _make(folder: Path) -> None:
    import torch  # noqa: PLC0415
    import transformers as hf  # noqa: PLC0415

    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*special, *(f"word{n}" for n in range(_WORDS - len(special)))]))
    end = special.index("[SEP]")
    config = hf.BlipConfig(
        vision_config={
            "image_size": 384,
            "patch_size": 16,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
        text_config={
            "vocab_size": _WORDS + 2,
            "hidden_size": 768,
            "encoder_hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "bos_token_id": _WORDS,
            "sep_token_id": end,
            "eos_token_id": end,
            "pad_token_id": 0,
        },
    )
    model = hf.BlipForConditionalGeneration(config)
    model.text_decoder.cls.predictions.bias.data[end] = -10_000
    model.save_pretrained(folder)
    image_processor = hf.BlipImageProcessor(size={"height": 384, "width": 384})
    hf.BlipProcessor(image_processor, hf.BertTokenizerFast(str(folder / "vocab.txt"))).save_pretrained(folder)


if __name__ == "__main__":
    main()
