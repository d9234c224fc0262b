"""The embedding engine on torch, where the model is beside the point."""

from typing import Any

import numpy as np
import pytest

from homelab_ai.embedding.engines.torch import TorchEmbeddings, _passes


class Seeing:
    """Stands for a model that takes pictures too, and remembers what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def encode(self, inputs: list[Any], **_: object) -> np.ndarray[Any, Any]:
        self.given += inputs
        return np.ones((len(inputs), 2))


@pytest.mark.parametrize("address", ["http://127.0.0.1/x.png", "/etc/secret.png", "data:image/png;base64,AAAA"])
def test_a_text_that_looks_like_the_address_of_a_picture_stays_a_text(address: str) -> None:
    engine = TorchEmbeddings.__new__(TorchEmbeddings)
    model = Seeing()
    engine._model = model
    engine._takes_more_than_text = True

    engine._embed([address])

    assert model.given == [{"text": address}]


@pytest.mark.parametrize("lengths", [[], [1], [4096] * 3, [5000, 1], [3, 256, 7, 256, 100] * 20, [0, 0, 0]])
def test_passes_hold_every_text_once_within_the_budget_longest_first(lengths: list[int]) -> None:
    passes = _passes(np.array(lengths, dtype=np.int64))

    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))
    for rows in passes:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or longest * len(rows) <= 4096
    starts = [lengths[rows[0]] for rows in passes]
    assert starts == sorted(starts, reverse=True)
