"""What the doctor has found: one sentence each, and the line that mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What it is about, such as `browser`."""
    level: Level
    saw: str
    """What there is, as a sentence."""
    mend: str = ""
    """What to type or to write; empty where nothing is to be mended."""


def has_problem(findings: Iterable[Finding]) -> bool:
    """Whether something has to be mended."""
    return any(finding.level == "problem" for finding in findings)
