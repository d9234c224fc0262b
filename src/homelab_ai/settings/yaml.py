"""Reads YAML for `loading`: plain values, the line of each, and what a person may have meant otherwise.

PyYAML's safe loader lets three things pass that surprise people, so they are taken out here: a name given twice (the
last one wins in silence), a name that is no text (``no:`` is the name False), and words or numbers that YAML 1.1 reads
in a way of its own (``12:30`` as 750, ``010`` as 8, ``2024-01-01`` as a date, ``1e3`` as text).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from homelab_ai.settings.values import Place

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_KEPT = (f"{_TAG}bool", f"{_TAG}null", _MERGE)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to configure a loader
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
    list("-+.0123456789"),
)


class YamlProblem(NamedTuple):
    """Something that keeps a text from being read as it was meant. Lines count from 1; 0 is an unknown one."""

    line: int
    place: Place
    message: str


@dataclass(frozen=True)
class Document:
    """What a YAML text holds. `values` is None for an empty text, and for one that is not YAML."""

    values: Any = None
    problems: tuple[YamlProblem, ...] = ()
    root: yaml.Node | None = None

    def holds(self, place: Place) -> bool:
        """Tell whether there is something at that place, by its names alone."""
        values = self.values
        for step in place:
            if not isinstance(values, dict) or step not in values:
                return False
            values = values[step]
        return True

    def line_of(self, place: Place) -> int:
        """Return the line, from 1, of a setting, or of what is written closest around it."""
        node, line = self.root, 1
        for step in place:
            found = _below(node, step)
            if found is None:
                break
            line, node = found
        return line


def read_yaml(text: str) -> Document:
    """Read a YAML text; what is wrong with it is told by the document and never raised."""
    problems: list[YamlProblem] = []
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Document()
        problems += _doubtful_names(root, (), set())
        return Document(loader.construct_document(root), tuple(problems), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = f"{error.problem or 'something is missing'} (check the indentation and the quotes)"
        line = mark.line + 1 if mark else 1
    except yaml.reader.ReaderError as error:
        why, line = "it holds a character that is not allowed", text.count("\n", 0, error.position) + 1
    except (ValueError, LookupError, RecursionError):
        # PyYAML lets its converters' own errors through, such as those of `!!int many`, and they know no line.
        why, line = "it holds a value that cannot be read", 0
    return Document(problems=(*problems, YamlProblem(line, (), f"not valid YAML: {why}")))


def _doubtful_names(node: yaml.Node, place: Place, seen: set[int]) -> Iterator[YamlProblem]:
    # An anchor makes one node appear in several places, even within itself.
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _doubtful_names(item, (*place, index), seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            yield from _doubtful_names(value, place, seen)
        elif key.tag != f"{_TAG}str":
            yield YamlProblem(line, place, "a name that is not text; put it in quotes")
        else:
            if key.value in lines:
                why = f"given twice, first in line {lines[key.value]}; keep one of them"
                yield YamlProblem(line, (*place, key.value), why)
            lines.setdefault(key.value, line)
            yield from _doubtful_names(value, (*place, key.value), seen)


def _below(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # Backwards, because what a merge key brings stands before the names that override it.
        for key, value in reversed(node.value):
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line + 1, item
    return None
