"""Boosted decision trees, as plain numbers: read from JSON, asked with NumPy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 500
"""That are asked at once, so that a page of many blocks takes no more memory than one of a few."""


class Trees:
    """The trees of one model, their nodes in one row. A leaf is a node that leads to itself."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.figures: list[str] = stored["figures"]
        """The names of the columns that are asked for."""
        self._start = float(stored["start"])
        self._roots = np.array(stored["roots"], dtype=np.intp)
        self._depth = int(stored["depth"])
        self._column = np.array(stored["column"], dtype=np.intp)
        self._line = np.array(stored["line"], dtype=np.float32)
        self._below = np.array(stored["below"], dtype=np.intp)
        """The first of the two nodes below each: what is not above the line goes there, all else to the next."""
        self._value = np.array(stored["value"], dtype=np.float64)

    def of(self, columns: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
        """Return the sum of what the trees say of each row: the logarithm of the odds."""
        table = np.column_stack(columns).astype(np.float32)
        parts = [self._of(table[start : start + _ROWS]) for start in range(0, len(table), _ROWS)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _of(self, table: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = np.arange(len(table))[:, None]
        nodes = np.broadcast_to(self._roots, (len(table), len(self._roots)))
        for _ in range(self._depth):
            below = self._below[nodes]
            nodes = below + ((below != nodes) & (table[rows, self._column[nodes]] > self._line[nodes]))
        odds: NDArray[np.float64] = self._value[nodes].sum(axis=1) + self._start
        return odds
