"""What an embedding engine answers to a run, whichever calculates."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Embedded:
    """The vectors of some texts, and what there is to say about them."""

    matrix: Matrix
    """One row for each text, in their order; C-contiguous."""
    truncated: list[int]
    """Positions of the texts that were longer than the model's window."""
    tokenize_seconds: float
    inference_seconds: float
    tokens: int | None
    """As many as were read, padding not counted; None where the model has none."""

    def answer(self, **more: Any) -> tuple[dict[str, Any], memoryview]:
        """Return header and body, as `hosts.engine` wants them."""
        header: dict[str, Any] = {
            "shape": self.matrix.shape,
            "truncated": self.truncated,
            "seconds": {"tokenize": self.tokenize_seconds, "inference": self.inference_seconds},
        }
        if self.tokens is not None:
            header["tokens"] = self.tokens
        return header | more, self.matrix.data.cast("B")
