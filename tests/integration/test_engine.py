"""The embedding engines, where the model is beside the point."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from homelab_ai.embedding.engines.encode import AnyModel
from homelab_ai.embedding.engines.openvino import _rounded, packed
from homelab_ai.embedding.engines.plain import PlainTransformer
from homelab_ai.embedding.engines.plain import passes as passes_of
from homelab_ai.embedding.engines.tokens import Facts
from homelab_ai.models import cores
from support.reference import MINILM


class Seeing:
    """Stands for a model that takes pictures too, and remembers what it is given."""

    modalities = ("text", "image")
    prompts: ClassVar[dict[str, str]] = {}
    default_prompt_name = None

    def __init__(self) -> None:
        self.given: list[Any] = []

    def encode(self, inputs: list[Any], **_: object) -> np.ndarray[Any, Any]:
        self.given += inputs
        return np.ones((len(inputs), 2))


@pytest.mark.parametrize("address", ["http://127.0.0.1/x.png", "/etc/secret.png", "data:image/png;base64,AAAA"])
def test_a_text_that_looks_like_the_address_of_a_picture_stays_a_text(address: str) -> None:
    model = Seeing()
    engine = AnyModel(model, window=None)

    engine.embed([address])

    assert model.given[-1] == {"text": address}


@pytest.mark.parametrize("lengths", [[], [1], [4096] * 3, [5000, 1], [3, 256, 7, 256, 100] * 20, [0, 0, 0]])
def test_passes_hold_every_text_once_within_the_budget_longest_first(lengths: list[int]) -> None:
    passes = passes_of(np.array(lengths, dtype=np.int64), 4096)

    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))
    for rows in passes:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or longest * len(rows) <= 4096
    starts = [lengths[rows[0]] for rows in passes]
    assert starts == sorted(starts, reverse=True)


@pytest.mark.parametrize("streams", [1, 2, 7])
@pytest.mark.parametrize("lengths", [[], [1], [0, 0], [512] * 9, [5, 9, 9, 200, 31, 7], [3, 256, 7, 256, 100] * 90])
def test_groups_hold_every_text_once_in_few_shapes(lengths: list[int], streams: int) -> None:
    groups = packed(lengths, streams)

    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        width = max(_rounded(lengths[row]) for row in rows)
        assert len(rows) == 1 or width * len(rows) <= 1024
    if lengths and max(map(_rounded, lengths)) * streams <= sum(map(_rounded, lengths)):
        assert len(groups) >= streams, "all streams have work"


def test_texts_share_a_pass_where_padding_costs_less_than_a_pass() -> None:
    assert packed([16] * 7, 1) == [[0, 1, 2, 3, 4, 5, 6]], "of eight rows, one says nothing"
    assert sorted(map(len, packed([16] * 6, 1))) == [2, 4], "two that say nothing would cost more than a pass"
    assert packed([17, 16, 16], 1) == [[0, 1, 2]]
    assert packed([200, 10, 10], 1) == [[0], [1, 2]]


def test_lengths_are_rounded_a_little_and_to_few() -> None:
    for length in range(1, 8193):
        assert length <= _rounded(length) <= (1.125 if length <= 64 else 1.25) * length
    assert len({_rounded(length) for length in range(1, 513)}) == 44


@pytest.mark.parametrize(
    ("text", "most"), [("max 100000", 999), ("100000 100000", 1), ("150000 100000", 2), ("10000 100000", 1), ("?", 999)]
)
def test_a_container_is_not_given_more_threads_than_it_may_run(tmp_path: Path, text: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert 1 <= cores.usable(tmp_path / "cpu.max") <= most
    assert cores.usable(tmp_path / "nothing") >= 1


class Cramped:
    """Stands for a model on a GPU that has room for three texts at a time, and sees the length of each."""

    device = torch.device("cpu")
    truncate_dim = None

    def __init__(self) -> None:
        self.passes: list[int] = []

    def __call__(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mask = features["attention_mask"]
        if len(mask) > 3:
            raise torch.OutOfMemoryError
        self.passes.append(len(mask))
        return {"sentence_embedding": mask.sum(dim=1, keepdim=True).to(torch.float16)}


@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_a_pass_for_which_there_is_no_room_is_done_by_halves(count: int) -> None:
    model = Cramped()
    facts = Facts(("input_ids", "attention_mask"), dimensions=1, window=512, prompt="", pad_id=0, pad_left=False)
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    engine = PlainTransformer(model, tokenizer, facts, window=512)
    embedded = engine.embed(["a " * (length + 1) for length in range(count)])
    assert embedded.matrix.tolist() == [[length + 3] for length in range(count)]
    assert embedded.matrix.dtype == np.float32
    assert sum(model.passes) == count
    assert max(model.passes) <= 3


def test_one_text_for_which_there_is_no_room_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("homelab_ai.embedding.engines.plain.vectors", full)
    facts = Facts(("input_ids", "attention_mask"), dimensions=1, window=512, prompt="", pad_id=0, pad_left=False)
    engine = PlainTransformer(Cramped(), Tokenizer.from_file(str(MINILM / "tokenizer.json")), facts, window=512)
    with pytest.raises(torch.OutOfMemoryError):
        engine.embed(["a", "b"])
