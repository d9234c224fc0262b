"""Turns config.yaml and the environment into `Settings`, or says everything that is wrong with them.

The first step of every start, before there is a server that could answer an error. Both sources are read into plain
values, the environment is laid over the file, and `tree` checks the result once. A problem found there
is then traced back to the line or the variable that caused it. Rules between settings (no name twice, one default) are
checked when the settings they compare are right by themselves.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from homelab_ai.settings.tree import Settings
from homelab_ai.settings.values import Mark, Place, model_within, plain_types, spell
from homelab_ai.settings.yaml import Document, YamlProblem, read_yaml

PREFIX = "HOMELAB_AI__"
_IN_FILE = "_FILE"


class ConfigurationError(Exception):
    """The configuration cannot be used. Each of `problems` is one line that says where, and what to do about it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n  ".join((f"The configuration has {count}:", *self.problems))


class Traced(NamedTuple):
    """Settings, and what is known of where they were given."""

    settings: Settings
    origins: Mapping[Place, str]
    """Of each setting that was given, a list being one: `config.yaml:3`, or the name of a variable."""
    from_files: frozenset[Place]
    """Settings that came from files which variables name, as secrets do, although they are no secrets by nature."""


def load_settings(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a configuration file, with those of the environment laid over them.

    Without `path`, the file is the one that the variable HOMELAB_AI_CONFIG names, else ./config.yaml if there is one.
    ``HOMELAB_AI__SERVER__PORT=8001`` sets server.port, and ``HOMELAB_AI__SERVER__PORT_FILE=/run/secrets/port`` reads
    it from a file. Text is taken as it stands, anything else is read as YAML, and a list is given whole.

    Raises:
        ConfigurationError: with everything that is wrong, and no value of a secret.
    """
    return load_traced(path, environ).settings


def load_traced(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Traced:
    """Return what `load_settings` does, and where each setting was given. Raises as that does."""
    file = _read_file(path, environ)
    overrides, problems = _read_environment(environ)
    values = _overlaid(file.document.values or {}, overrides)
    in_file = [(line, _line(file.at(line), place, message)) for line, place, message in file.document.problems]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            place = tuple(step for step in details["loc"] if step != "[key]")
            override = _override_of(place, overrides)
            if override is not None:
                message = _message(details, place, hidden=override.hidden)
                problems.append(_line(f"environment variable {override.variable}", place, message))
            # A name that is no text has been told already, with its line, when the file was read.
            elif details["type"] != "invalid_key":
                line = file.document.line_of(place)
                in_file.append((line, _line(file.at(line), place, _message(details, place))))
    else:
        if not in_file and not problems:
            hidden = [place for place, override in overrides.items() if override.hidden]
            from_files = frozenset(place for place in hidden if not is_confidential(place))
            return Traced(settings, dict(_origins(file, overrides)), from_files)
    raise ConfigurationError([*(text for _, text in sorted(in_file)), *problems])


_LONGEST_NAME = 31


def _line(where: str, place: Place, message: str) -> str:
    return ": ".join(part for part in (where, spell(tuple(map(_sayable, place))), message) if part)


def _sayable(step: str | int) -> str | int:
    # So long a name is none of ours; it may be a key or its hash, pasted where a name belongs.
    if isinstance(step, str) and (len(step) > _LONGEST_NAME or not step.isprintable()):
        return "(a long or odd name)"
    return step


# --- the file


class _File(NamedTuple):
    path: Path
    document: Document

    def at(self, line: int) -> str:
        return f"{self.path}:{line}" if line else str(self.path)


def _origins(file: _File, overrides: Mapping[Place, "_Override"]) -> Iterator[tuple[Place, str]]:
    for place in _SETTABLE.values():
        if override := overrides.get(place):
            yield place, override.variable
        elif file.document.holds(place):
            yield place, file.at(file.document.line_of(place))


def path_of(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return which file `load_settings` reads, whether it is there or not."""
    return _named(path, environ) or Path("config.yaml")


def _named(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    return path or (Path(environ["HOMELAB_AI_CONFIG"]) if environ.get("HOMELAB_AI_CONFIG") else None)


def _read_file(path: Path | None, environ: Mapping[str, str]) -> _File:
    named, path = _named(path, environ), path_of(path, environ)
    try:
        document = read_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return _File(path, _unreadable("there is no such file") if named else Document())
    except IsADirectoryError:
        why = "this is a folder, not a file (Docker makes one when the file that it should mount is missing)"
        return _File(path, _unreadable(why))
    except UnicodeDecodeError:
        return _File(path, _unreadable("not UTF-8 text; save it as UTF-8"))
    except OSError as error:
        return _File(path, _unreadable(f"cannot be read: {error.strerror}"))
    if document.values is not None and not isinstance(document.values, dict):
        document = _unreadable(f"expected `name: value` lines, got {_shown(document.values)}", line=1)
    return _File(path, document)


def _unreadable(why: str, line: int = 0) -> Document:
    return Document(problems=(YamlProblem(line, (), why),))


# --- the environment


class _Override(NamedTuple):
    variable: str
    value: Any
    hidden: bool


class _VariableError(Exception):
    def __init__(self, message: str, place: Place = ()) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def _read_environment(environ: Mapping[str, str]) -> tuple[dict[Place, _Override], list[str]]:
    overrides: dict[Place, _Override] = {}
    problems: list[str] = []
    givers: dict[Place, str] = {}
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        name = variable.upper().removeprefix(PREFIX)
        from_file = name not in _SETTABLE and name.endswith(_IN_FILE)
        place = _SETTABLE.get(name.removesuffix(_IN_FILE) if from_file else name)
        where = f"environment variable {variable}"
        if place is None:
            problems.append(f"{where}: {_unknown_variable(name)}")
        elif place in givers:
            problems.append(_line(where, place, f"given by {givers[place]} too; keep one of them"))
        else:
            givers[place] = variable
            try:
                overrides[place] = _read_variable(variable, environ[variable], place, from_file=from_file)
            except _VariableError as error:
                problems.append(_line(where, (*place, *error.place), error.message))
    return overrides, problems


def _read_variable(variable: str, text: str, place: Place, *, from_file: bool) -> _Override:
    hidden = from_file or is_confidential(place)
    if from_file:
        text = _text_of_file(text)
    types = set(plain_types(_KNOWN[place].annotation))
    if types <= {str, Path}:
        return _Override(variable, text, hidden)
    if types <= {str, Path, NoneType}:
        return _Override(variable, None if text in {"", "~", "null"} else text, hidden)
    document = read_yaml(text)
    for line, inner, message in document.problems:
        raise _VariableError(f"not valid YAML (line {line})") if hidden else _VariableError(message, inner)
    return _Override(variable, document.values, hidden)


def _text_of_file(path: str) -> str:
    # The path stays unsaid: it may be the secret itself, given to the wrong variable.
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise _VariableError("the file that it names is not UTF-8 text") from None
    except OSError as error:
        raise _VariableError(f"the file that it names cannot be read: {error.strerror}") from None


def _unknown_variable(name: str) -> str:
    suffix = _IN_FILE if name.endswith(_IN_FILE) else ""
    place = tuple(name.removesuffix(suffix).lower().split("__"))
    inside = [variable for variable in _SETTABLE if variable.startswith(f"{name}__")]
    if inside:
        return f"this is a group of settings; set them one by one, such as {PREFIX}{inside[0]}"
    around = next((variable for variable in _SETTABLE if name.startswith(f"{variable}__")), None)
    if around:
        return f"unknown setting; {spell(_SETTABLE[around])} can only be given whole, with {PREFIX}{around}"
    nearest = _nearest(place, _SETTABLE.values())
    return "unknown setting" + (f"; did you mean {PREFIX}{_variable(nearest)}{suffix}?" if nearest else "")


def _overlaid(values: dict[Any, Any], overrides: Mapping[Place, _Override]) -> dict[Any, Any]:
    result = dict(values)
    for place, override in overrides.items():
        section = result
        for step in place[:-1]:
            inner = {} if section.get(step) is None else section[step]
            if not isinstance(inner, dict):
                break  # the file's own problem, which is about to be found
            # A copy, because a YAML anchor may have put the same mapping in two places.
            section[step] = dict(inner)
            section = section[step]
        else:
            section[place[-1]] = override.value
    return result


def _override_of(place: Place, overrides: Mapping[Place, _Override]) -> _Override | None:
    parts = (place[:length] for length in range(len(place) + 1))
    return next((overrides[part] for part in parts if part in overrides), None)


# --- what to say


_EXPECTED = {
    "tuple_type": "expected a list such as [a, b], or [] for none",
    "dict_type": "expected `name: value` lines",
    "model_type": "expected `name: value` lines",
    "missing": "missing; every entry needs it",
}


def expectation(details: ErrorDetails, *, hidden: bool = False) -> str:
    """Return what would have been right, without what was found; `hidden`, without any part of it."""
    if details["type"] == "refused":
        return str(details["ctx"]["discreet" if hidden else "why"])
    return _EXPECTED.get(details["type"], details["msg"])


def _message(details: ErrorDetails, place: Place, *, hidden: bool = False) -> str:
    hidden = hidden or is_confidential(place)
    kind = details["type"]
    if kind == "extra_forbidden":
        nearest = _nearest(place, _KNOWN.keys())
        if nearest is None:
            return "unknown setting"
        sibling = nearest[:-1] == _anywhere(place[:-1])
        return f"unknown setting; did you mean {nearest[-1] if sibling else spell(nearest)}?"
    expected = expectation(details, hidden=hidden)
    return expected if hidden or kind in {"missing", "refused"} else f"{expected}, got {_shown(details['input'])}"


_LONGEST_SHOWN = 60


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "`name: value` lines"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# --- the names there are


def _anywhere(place: Place) -> Place:
    """Return the place with every position in a list made the first: what is true of one entry is true of all."""
    return tuple(0 if isinstance(step, int) else step for step in place)


def _names_below(model: type[BaseModel], above: Place = ()) -> Iterator[tuple[Place, FieldInfo]]:
    for name, field in model.model_fields.items():
        place = (*above, name)
        yield place, field
        inner = model_within(field.annotation)
        if inner:
            yield from _names_below(inner, place if inner is field.annotation else (*place, 0))


def variable_of(place: Place) -> str:
    """Return the variable that sets a setting."""
    return PREFIX + _variable(place)


def _variable(place: Place) -> str:
    return "__".join(str(step) for step in place).upper()


_KNOWN = dict(_names_below(Settings))
_SETTABLE = {
    _variable(place): place
    for place, field in _KNOWN.items()
    if 0 not in place and model_within(field.annotation) is not field.annotation
}


def is_confidential(place: Place) -> bool:
    """Tell whether a value found here may be, or may hold, a secret."""
    place = _anywhere(place)
    return any(Mark.CONFIDENTIAL in field.metadata and place == known[: len(place)] for known, field in _KNOWN.items())


def _nearest(place: Place, known: Collection[Place]) -> Place | None:
    """Return the setting that was probably meant: this name elsewhere, or a similar one, the closer the better."""
    *above, last = _anywhere(place)
    name = str(last).lower().replace("-", "_")
    # The shortest place wins where a name stands in several.
    elsewhere = {str(other[-1]): other for other in sorted(known, key=len, reverse=True)}
    siblings = {str(other[-1]): other for other in known if other[:-1] == tuple(above)}
    for names, likeness in ((siblings, 1.0), (elsewhere, 1.0), (siblings, 0.7), (elsewhere, 0.8)):
        for match in get_close_matches(name, names, n=1, cutoff=likeness):
            return names[match]
    # Half of a name: `timeout` for timeout_seconds.
    halves = (names[other] for names in (siblings, elsewhere) for other in names if other.startswith(f"{name}_"))
    return next(halves, None)
