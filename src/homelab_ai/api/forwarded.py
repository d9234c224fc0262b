"""The `Forwarded` header of RFC 7239, read from its right end.

Each proxy appends an element, in the same line or in one of its own, so what stands to the left of an element may be
the work of whoever sent the request. It is therefore never parsed before the element on its right has been: a quote
that is opened on the left must not swallow what a proxy appended.
"""

import re
from collections.abc import Iterator, Sequence

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
# The RFC wants quotes around what holds a colon or a bracket; not every proxy writes them.
_BARE = r'[^\s",;=\\]*+'
_PAIR = rf"{_NAME}=(?:{_QUOTED}|{_BARE})"
# Possessive all through, so that nothing a client sends takes longer than once through the line.
_ELEMENT = re.compile(rf"[ \t]*+(?:{_PAIR})?+(?:[ \t]*+;[ \t]*+(?:{_PAIR})?+)*+[ \t]*+")
_PARAMETER = re.compile(rf"({_NAME})=({_QUOTED}|{_BARE})")
_MOST_COMMAS = 16
"""Commas inside the quotes of one element; one with more is taken for none."""


def nodes(lines: Sequence[str]) -> Iterator[str]:
    """Yield the `for` of each element, the last one first: an address as in the header, without its quotes.

    "" stands for an element that names nobody, and, as the last of all, for the first thing that is none.
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = _before_the_last_element(line, end)
            if comma is None:
                yield ""
                return
            yield _node(line[comma + 1 : end])
            end = comma


def _before_the_last_element(line: str, end: int) -> int | None:
    """Where the comma before the last element is, -1 where it is the only one, `None` where it is no element."""
    comma = end
    for _ in range(_MOST_COMMAS + 1):
        comma = line.rfind(",", 0, comma)
        if _ELEMENT.fullmatch(line, comma + 1, end):
            return comma
        if comma < 0:
            break
    return None


def _node(element: str) -> str:
    named = [value for name, value in _PARAMETER.findall(element) if name.lower() == "for"]
    if len(named) != 1:  # no parameter may come twice
        return ""
    value: str = named[0]
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
