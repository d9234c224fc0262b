"""Whether what the documentation shows is what comes: what differs from one time to the next aside."""

import json
import re
from typing import Any

_EVERY_TIME_ANOTHER = {"request_id", "processing_time_ms", "fetch_time_ms", "created_at", "key"}
_VECTORS_DIFFER_BY = 0.01
"""Another processor calculates in another precision."""


def parsed(shown: str) -> Any:
    """JSON in which a list may end with `...` for the rest of it."""
    return json.loads(re.sub(r", \.\.\.\]", ', "..."]', shown))


def differences(shown: Any, real: Any, place: str = "it") -> list[str]:
    """What is wrong with what is shown. The order of fields counts, for it is seen."""
    match shown, real:
        case dict(), dict():
            if [*shown] != [*real]:
                return [f"{place} has {[*shown]}, and comes with {[*real]}"]
            pairs = [(f"{place}.{key}", shown[key], real[key]) for key in shown]
        case [*begun, "..."], [*_] if len(begun) <= len(real):
            pairs = [(f"{place}[{n}]", *pair) for n, pair in enumerate(zip(begun, real, strict=False))]
        case [*_], [*_] if len(shown) == len(real):
            pairs = [(f"{place}[{n}]", *pair) for n, pair in enumerate(zip(shown, real, strict=True))]
        case _:
            same = type(shown) is type(real) and (place.rpartition(".")[2] in _EVERY_TIME_ANOTHER or _near(shown, real))
            return [] if same else [f"{place} is {shown!r}, and comes as {real!r}"]
    return [wrong for place_, one, other in pairs for wrong in differences(one, other, place_)]


def _near(shown: Any, real: Any) -> bool:
    return bool(shown == real or (isinstance(shown, float) and abs(shown - real) <= _VECTORS_DIFFER_BY))


def but_for_figures(shown: str, real: str) -> bool:
    """Whether two texts are the same but for white space and all numbers."""
    number = re.compile(r"\d+(\.\d+)?")
    return number.sub("#", shown).split() == number.sub("#", real).split()


def with_the_same_head(shown: str, real: str) -> bool:
    """Whether two tables have the same columns."""
    return shown.splitlines()[0].split() == real.splitlines()[0].split()


def printed_alike(shown: str, real: str) -> bool:
    """Whether two texts are the same but for white space and the last digits of fractions."""
    fraction = re.compile(r"-?\d+\.\d*")
    if fraction.sub("#", shown).split() != fraction.sub("#", real).split():
        return False
    pairs = zip(fraction.findall(shown), fraction.findall(real), strict=True)
    return all(abs(float(one) - float(other)) <= 2 * _VECTORS_DIFFER_BY for one, other in pairs)
