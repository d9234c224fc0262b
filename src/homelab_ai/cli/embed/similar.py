"""Which of a few texts are alike, by the cosine of the angle between their vectors."""

from collections.abc import Sequence

import numpy as np

from homelab_ai.cli import output
from homelab_ai.cli.embed.texts import Text
from homelab_ai.cli.embed.vectors import Matrix
from homelab_ai.cli.writing import printable

FEWEST, MOST = 2, 20
"""Texts; a table of more is not read."""


def similarities(matrix: Matrix) -> Matrix:
    """Return the cosine of each two rows: 1 for the same direction, about 0 for nothing in common."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = matrix / np.where(lengths == 0, 1, lengths)
    return np.clip(rows @ rows.T, -1, 1)


def show(texts: Sequence[Text], cosines: Matrix) -> None:
    """Print the table, and below it the two that are most alike."""
    numbers = [f"{number}" for number in range(1, len(texts) + 1)]
    rows = [
        (number, " ".join(printable(text.text).split()), *(f"{cosine:.2f}" for cosine in row))
        for number, text, row in zip(numbers, texts, cosines, strict=True)
    ]
    output.show(["", "text", *numbers], rows, right=["", *numbers], long=["text"])
    others = cosines - 3 * np.eye(len(texts))  # a text is like itself, which is nothing to tell
    one, other = sorted(int(place) for place in np.unravel_index(others.argmax(), others.shape))
    print(f"Most alike: {one + 1} and {other + 1} ({cosines[one, other]:.2f})")
