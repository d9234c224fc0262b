"""The rows of the table that `make bench` prints."""

from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    beside: str
    ratio: str
    limited: bool = False
    """Whether it is beside a limit, which must hold."""
