"""docs/models.md: what it says of memory, names, settings and the models that are there is what the code does."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

from benchmarks.shapes import SHAPES
from homelab_ai.embedding.engines import gate
from homelab_ai.models import memory
from homelab_ai.models.files import places
from homelab_ai.settings import ImageCaptionModel, Settings, TextEmbeddingModel, is_reserved
from support.documents import document, in_backticks

MODELS = document("docs/models.md")
BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = MODELS.table("on the hub", "languages", "dimensions", "window, tokens", "parameters", "on the disk", "licence")
IMAGES = MODELS.table("on the hub", "what it says", "parameters", "on the disk", "licence")
MB = 1024**2


def test_every_model_of_the_default_settings_is_described() -> None:
    for rows, offered in ((TEXTS, Settings().models.text_embedding), (IMAGES, Settings().models.image_caption)):
        described = {row["on the hub"]: row for row in rows}
        assert {f"`{entry.hf_model}`" for entry in offered} <= described.keys()
        for entry in offered:
            row = described[f"`{entry.hf_model}`"]
            assert ("disabled by default" in row.get("what it says", "disabled by default")) or entry.enabled
            if isinstance(entry, TextEmbeddingModel) and entry.dimensions:
                assert row["dimensions"] == str(entry.dimensions)


def test_what_is_said_of_the_bundled_model_is_true() -> None:
    row = next(row for row in TEXTS if row["on the hub"] == f"`{BUNDLED}`")
    folder = places.packaged(BUNDLED)
    assert folder
    size = places.weights_bytes(BUNDLED, Path("nowhere"))
    assert size
    assert row["on the disk"] == f"{size / 1e6:.0f} MB, bundled"
    assert int(row["dimensions"]) == json.loads((folder / "config.json").read_text())["hidden_size"]
    assert (
        int(row["window, tokens"]) == json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    )
    assert row["parameters"] == f"{size / 4 / 1e6:.0f} million"


def test_the_estimate_is_that_of_the_code() -> None:
    rows = {row["on"]: row for row in MODELS.table("on", "main memory", "GPU memory")}
    for weights in (10**8, 10**9):
        for place, on_gpu in (("the CPU", False), ("a GPU", True)):
            expected = memory.estimate(weights, on_gpu=on_gpu)
            assert _bytes(rows[place]["main memory"], weights) == expected.memory_bytes
            assert _bytes(rows[place]["GPU memory"], weights) == expected.gpu_memory_bytes
    assert memory.estimate(None, on_gpu=False) == memory.estimate(500 * MB, on_gpu=False)
    assert "not here yet count as 500 MB" in MODELS.text
    assert f"{memory._PART_OF_THE_MACHINE:.0%} of the machine" in MODELS.text


def _bytes(formula: str, weights: int) -> int:
    """What it comes to: `1.25 times the weights + 350 MB`, or a part of that."""
    times, fixed = re.search(r"([\d.]+) times the weights", formula), re.search(r"(\d+) MB", formula)
    return int((float(times[1]) if times else 0) * weights) + MB * (int(fixed[1]) if fixed else 0)


def test_what_is_said_of_settings_is_true() -> None:
    assert is_reserved(TextEmbeddingModel, "prompts") is ("`prompts` has no\neffect in this version" in MODELS.text)
    assert f"after its last request ({Settings().resources.model_keep_alive_minutes};" in MODELS.text
    assert f"a cosine of {gate.LEAST_COSINE} or more" in MODELS.text.replace("\n  ", " ")
    named = {
        name for row in re.findall(r"^- \*\*(`.*?)\.?\*\*", MODELS.text, re.MULTILINE) for name in in_backticks(row)
    }
    assert named <= TextEmbeddingModel.model_fields.keys()
    unsaid = {"id", "hf_model", "default", "enabled", "revision", "aliases", "keep_alive_minutes", "prompts"}
    assert TextEmbeddingModel.model_fields.keys() - named - unsaid == set()
    assert unsaid - {"enabled"} <= {word for code in MODELS.code for word in re.findall(r"\w+", code)}
    assert ImageCaptionModel.model_fields.keys() <= TextEmbeddingModel.model_fields.keys()


def test_what_was_measured_can_be_measured() -> None:
    measured = MODELS.table("of the shape of", "weights", "just loaded", "after texts of all words")
    assert {row["of the shape of"] for row in measured} == {shape.like for shape in SHAPES.values()}


def test_the_packaged_model_is_the_only_one() -> None:
    assert [*places.PACKAGED_MODELS] == [BUNDLED]
    assert find_spec(places.PACKAGED_MODELS[BUNDLED][0])
