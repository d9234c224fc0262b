"""The bare engine, without service, batcher and HTTP, in a process of its own: `python -m benchmarks.engine MODELS`.

Reads one JSON value a line and answers with a number: a list of texts with the seconds that their vectors took;
`{"tokens_of": [...]}` with how many tokens these have, as far as the model reads them; `{"multiplications": n}` with
how many the processor does in a second, in n rounds of matrix products of MiniLM's kind and in the engine's precision.
"""

import json
import sys
import time
from typing import Any

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    """Load the model, then answer what comes."""
    from homelab_ai.embedding.engines import choice  # noqa: PLC0415 - what the imports cost is not measured here

    settings = dict.fromkeys(("revision", "max_length", "dimensions"))
    automatic = dict.fromkeys(("device", "backend", "precision"), "auto")
    options = {"hf_model": HUB_NAME, "models_dir": sys.argv[1], **settings, **automatic}
    engine: Any = choice.load(options, lambda _: None)
    print(json.dumps(engine.describe()), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, list):
            body = json.dumps(asked).encode()
            started = time.perf_counter()
            engine.run({}, body)
            print(json.dumps(time.perf_counter() - started), flush=True)
        elif "tokens_of" in asked:
            print(json.dumps(_tokens(asked["tokens_of"], engine.describe()["max_length"])), flush=True)
        else:
            print(json.dumps(_multiplications(asked["multiplications"], engine.describe()["precision"])), flush=True)


def _tokens(texts: list[str], window: int) -> int:
    from tokenizers import Tokenizer  # noqa: PLC0415

    from homelab_ai.models.files import places  # noqa: PLC0415

    folder = places.packaged(HUB_NAME)
    assert folder
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(window)
    return sum(len(encoding) for encoding in tokenizer.encode_batch_fast(texts))


def _multiplications(rounds: int, precision: str) -> float:
    """In a second, of the largest of MiniLM's products over a thousand tokens, on all cores."""
    import torch  # noqa: PLC0415

    weights = torch.randn(1536, 384, dtype=getattr(torch, precision))
    tokens = torch.randn(1024, 384, dtype=weights.dtype)
    with torch.inference_mode():
        for _ in range(50):
            torch.nn.functional.linear(tokens, weights)
        started = time.perf_counter()
        for _ in range(300 * rounds):
            torch.nn.functional.linear(tokens, weights)
    return 300 * rounds * 1024 * 384 * 1536 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
