"""The gate: whether vectors that were calculated in some faster way are as good as those of torch in float32."""

from typing import Any

import numpy as np

LEAST_COSINE = 0.999
_NEAR_TIE = 0.02
"""Of two neighbours either may be the nearest that differ by no more than this part of how far the nearest stands out:
some models put all texts close together, and what tells them apart is small."""

Vectors = np.ndarray[Any, Any]


def judge(found: Vectors, expected: Vectors) -> tuple[float, bool]:
    """Compare the vectors of the same texts, one a row. Returns the least cosine, and whether they pass.

    They do where every vector has a cosine of 0.999 or more to the one expected, and the same nearest neighbours.
    """
    found, expected = _normalized(found), _normalized(expected)
    least = float((found * expected).sum(axis=1).min())
    return least, least >= LEAST_COSINE and _same_neighbours(found, expected)


def _normalized(vectors: Vectors) -> Vectors:
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float64).tiny))


def _same_neighbours(found: Vectors, expected: Vectors) -> bool:
    """Whether the nearest other text of each is the same, or one that is as near."""
    similarities, rightly = found @ found.T, expected @ expected.T
    usual = np.median(rightly, axis=1)
    np.fill_diagonal(similarities, -np.inf)
    np.fill_diagonal(rightly, -np.inf)
    nearest = rightly.max(axis=1)
    chosen = rightly[np.arange(len(rightly)), similarities.argmax(axis=1)]
    return bool((nearest - chosen <= _NEAR_TIE * (nearest - usual)).all())
