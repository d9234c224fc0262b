"""YAML as people mean it: values, lines, and the traps that YAML 1.1 lays."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from homelab_ai.settings.values import Place
from homelab_ai.settings.yaml import read_yaml

TEXT = """\
# a comment
server:
  port: 8000

models:
  text_embedding:
    - id: a
    - hf_model: b
      id: c
allow: [1,
  2]
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 1),
        (("server",), 2),
        (("server", "port"), 3),
        (("server", "host"), 2),
        (("models", "text_embedding", 1), 8),
        (("models", "text_embedding", 1, "id"), 9),
        (("models", "text_embedding", 1, "dimensions"), 8),
        (("models", "text_embedding", 7), 6),
        (("allow", 1), 11),
        (("crawl",), 1),
    ],
)
def test_line_of(place: Place, line: int) -> None:
    assert read_yaml(TEXT).line_of(place) == line


@pytest.mark.parametrize("text", ["", "   ", "# only a comment\n", "---\n"])
def test_an_empty_text_has_no_values_and_no_problems(text: str) -> None:
    document = read_yaml(text)
    assert document.values is None
    assert document.problems == ()
    assert document.line_of(("server",)) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8000", 8000),
        ("-1", -1),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("no", False),
        ("null", None),
        ("~", None),
        ("010", "010"),
        ("12:30", "12:30"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("=", "="),
        ("::1", "::1"),
        ("['::1', fd00::/8]", ["::1", "fd00::/8"]),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
    ],
)
def test_values(text: str, value: Any) -> None:
    document = read_yaml(text)
    assert document.problems == ()
    assert document.values == value
    assert type(document.values) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, ("a",), "given twice, first in line 1"),
        ("a:\n  - {x: 1, x: 2}\n", 2, ("a", 0, "x"), "given twice, first in line 2"),
        ("a:\n  no: 1\n", 2, ("a",), "a name that is not text"),
        ("5: 1\n", 1, (), "a name that is not text"),
        ("a: 1\nb: [1,\n", 3, (), "not valid YAML: "),
        ("a: 1\n\tb: 2\n", 2, (), "not valid YAML: "),
        ("a: b: c\n", 1, (), "not valid YAML: mapping values are not allowed here"),
        (
            "[::1]",
            1,
            (),
            "not valid YAML: expected the node content, but found ':' (check the indentation and the quotes)",
        ),
        ("a: *b\n", 1, (), "not valid YAML: found undefined alias"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, (), "not valid YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", 2, (), "not valid YAML: but found another document"),
        ("a: !!int many\n", 0, (), "not valid YAML: it holds a value that cannot be read"),
        (f"a: {'9' * 5000}\n", 0, (), "not valid YAML: it holds a value that cannot be read"),
        ("a: 1\nb: \x00\n", 2, (), "not valid YAML: it holds a character that is not allowed"),
        ("[" * 5000, 0, (), "not valid YAML: it holds a value that cannot be read"),
    ],
)
def test_problems(text: str, line: int, place: Place, message: str) -> None:
    [problem] = read_yaml(text).problems
    assert (problem.line, problem.place) == (line, place)
    assert problem.message.startswith(message)


def test_merge_keys_may_be_overridden() -> None:
    document = read_yaml("base: &base\n  a: 1\n  b: 2\nother:\n  <<: *base\n  b: 3\nagain: *base\n")
    assert document.problems == ()
    assert document.values["other"] == {"a": 1, "b": 3}
    assert document.line_of(("other", "b")) == 6
    assert document.line_of(("other", "a")) == 2


def test_an_anchor_that_holds_itself_ends() -> None:
    assert read_yaml("a: &a [*a]\n").problems == ()


def is_no_number(text: str) -> bool:
    """Whether the writer quotes it if need be: it leaves `1e3` unquoted, which is a number here but not to it."""
    try:
        float(text)
    except ValueError:
        return True
    return False


NO_NUMBER = st.text().filter(is_no_number)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NO_NUMBER,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NO_NUMBER, inner, max_size=4),
    max_leaves=10,
)


@given(PLAIN)
def test_what_is_written_as_yaml_is_read_back(value: Any) -> None:
    document = read_yaml(yaml.safe_dump(value))
    assert document.problems == ()
    assert document.values == value


@given(st.text())
def test_no_text_raises(text: str) -> None:
    read_yaml(text)
