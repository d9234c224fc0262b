"""Makes a model of a shape, with random weights: `python -m benchmarks.shapes_model FOLDER SHAPE`."""

import json
import random
import sys
from pathlib import Path

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def made_up_words(count: int) -> list[str]:
    """The same made-up words each time."""
    dice = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 9)))] = None
    return [*found]


def main() -> None:
    """Make it, and say so."""
    import torch  # noqa: PLC0415 - in this process only
    import transformers as hf  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.base.modules import Normalize, Transformer  # noqa: PLC0415
    from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: PLC0415
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: PLC0415

    folder, shape = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.manual_seed(0)
    pieces = [*_SPECIAL, *(f"▁{word}" for word in made_up_words(shape["words"] - len(_SPECIAL)))]
    tokenizer = Tokenizer(models.Unigram([(piece, -10.0) for piece in pieces], unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({f"{piece[1:-1].lower()}_token": piece for piece in _SPECIAL})
    config = hf.BertConfig(
        vocab_size=shape["words"],
        hidden_size=shape["width"],
        intermediate_size=4 * shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
    )
    parts = folder / "parts"
    model = hf.BertModel(config, add_pooling_layer=False)
    model.embeddings.word_embeddings.weight.data *= 50  # or all texts would be nearly alike, and the gate be shut
    model.save_pretrained(parts)
    fast.save_pretrained(parts)
    transformer = Transformer(str(parts))
    transformer.max_seq_length = 512
    modules = [transformer, Pooling(shape["width"], "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
    print(json.dumps({}), flush=True)


if __name__ == "__main__":
    main()
