"""Small sentence-transformers models of many kinds, with random weights, made in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import sys
from pathlib import Path
import torch, transformers as hf
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.base.modules import Dense, Normalize, Transformer

folder, tokenizer = Path(sys.argv[1]), sys.argv[2]
torch.manual_seed(1)
small = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=30522)
distil = dict(dim=32, hidden_dim=64, n_layers=2, n_heads=2, vocab_size=30522)


def transformer(name, config, window=128):
    hf.AutoModel.from_config(config).save_pretrained(folder / "parts" / name)
    hf.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder / "parts" / name)
    part = Transformer(str(folder / "parts" / name))
    part.max_seq_length = window
    return part


def save(name, *modules, **more):
    SentenceTransformer(modules=list(modules), device="cpu", **more).save(str(folder / name), create_model_card=False)


save("mean", transformer("a", hf.BertConfig(**small)), Pooling(32, "mean"), Normalize())
save("first-dense", transformer("b", hf.BertConfig(**small), 512), Pooling(32, "cls"), Dense(32, 48), Normalize())
save("max", transformer("c", hf.DistilBertConfig(**distil)), Pooling(32, ("max", "mean")))
save(
    "prompted",
    transformer("d", hf.BertConfig(**small)),
    Pooling(32, "mean"),
    Normalize(),
    prompts={"passage": "passage: "},
    default_prompt_name="passage",
    truncate_dim=16,
)
save(
    "unprompted",
    transformer("e", hf.BertConfig(**small)),
    Pooling(32, "mean", include_prompt=False),
    prompts={"passage": "passage: "},
    default_prompt_name="passage",
)
fast = hf.AutoTokenizer.from_pretrained(tokenizer).backend_tokenizer
fast.no_padding()
save("static", StaticEmbedding(fast, embedding_dim=32))
"""


def make(folder: Path, tokenizer: Path) -> None:
    """Make the models `mean`, `first-dense`, `max`, `prompted`, `unprompted` and `static` in that folder."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(tokenizer)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=True,
        timeout=100,
    )


def options(model: Path, models_dir: Path, **others: Any) -> dict[str, Any]:
    """What an engine is told of a model, with all that is not said left to it."""
    automatic = dict.fromkeys(("device", "backend", "precision"), "auto")
    unset = dict.fromkeys(("revision", "max_length", "dimensions"))
    return {"hf_model": str(model), "models_dir": str(models_dir), **automatic, **unset, **others}
