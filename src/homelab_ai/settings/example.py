"""Writes config.example.yaml out of the tree in `settings`, so that the two can never disagree.

Run as ``python -m homelab_ai.settings.example > config.example.yaml``. Descriptions become comments and defaults become
values: a copy of the file, as it is, configures exactly what an empty file does.
"""

import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from homelab_ai.settings.source import LIVE
from homelab_ai.settings.walk import Setting, walk

_WIDTH = 100
_INTRODUCTION = """\
The configuration of homelab-ai-api: every setting, with its default. Copy this file to config.yaml and change what
you like; what you leave out keeps its default.

Each setting can also come from the environment, which wins over the file: server.port is HOMELAB_AI__SERVER__PORT,
and HOMELAB_AI__SERVER__PORT_FILE names a file that holds the value, such as a Docker secret. A list is given whole:
HOMELAB_AI__SECURITY__IP_ALLOWLIST='[192.168.1.0/24, 127.0.0.1]'. HOMELAB_AI_CONFIG names another file than
./config.yaml.

The running service reads this file anew when it changes (on SIGHUP, too, and then also the files that variables name;
but SIGHUP ends a service that runs in a terminal). This takes effect within two seconds: {live}. Everything else does
with the next start. A file that cannot be used is reported in the log, and the last settings stay in force.

"No effect in this version" marks a setting that is checked already, but whose feature comes later.
"""
# Kept on one line, so that it can be searched for.
_NO_EFFECT = " (no\0effect\0in\0this\0version)"


def example_configuration() -> str:
    """Return the text of config.example.yaml."""
    text = _INTRODUCTION.format(live=", ".join(LIVE))
    introduction = "\n#\n".join("\n".join(_comment(part, 0)) for part in text.split("\n\n"))
    return "\n".join([introduction, *(line for setting in walk() for line in _lines(setting))]) + "\n"


def flow(value: Any) -> str:
    """Return a value as it is written behind the name of its setting, on one line."""
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    # PyYAML ends a lone scalar with an end-of-document mark.
    return (
        yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=sys.maxsize)
        .strip()
        .removesuffix("...")
        .strip()
    )


def assignment(name: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the lines that give a setting its value."""
    entries = [entry for entry in value if isinstance(entry, BaseModel)] if isinstance(value, tuple) else []
    if not entries:
        yield f"{_indent(depth)}{name}: {flow(value)}"
        return
    yield f"{_indent(depth)}{name}:"
    for entry in entries:
        given = entry.model_dump(mode="json", include=entry.model_fields_set)
        for position, (inner, inner_value) in enumerate(given.items()):
            yield f"{_indent(depth + 1)}{'- ' if position == 0 else '  '}{inner}: {flow(inner_value)}"


def _lines(setting: Setting) -> Iterator[str]:
    depth = len(setting.place) - 1
    if depth == 0:
        yield ""
    if setting.is_section:
        yield from _comment(setting.field.description or "", depth)
        yield f"{_indent(depth)}{setting.name}:"
    else:
        yield from _comment(_described(setting), depth)
        yield from _entry_reference(setting, depth)
        yield from assignment(setting.name, setting.default, depth)


def _entry_reference(setting: Setting, depth: int) -> Iterator[str]:
    for position, inner in enumerate(setting.of_entries()):
        if position == 0:
            yield from _comment("Each entry has:", depth)
        default = "required" if inner.field.is_required() else f"default {flow(inner.default)}"
        yield from _comment(f"{inner.name} ({default}): {_described(inner)}", depth, bullet=True)


def _described(setting: Setting) -> str:
    return f"{setting.field.description}{_NO_EFFECT if setting.reserved else ''}"


def _comment(text: str, depth: int, *, bullet: bool = False) -> list[str]:
    start = f"{_indent(depth)}# "
    lines = textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=f"{start}  " if bullet else start,
        subsequent_indent=f"{start}    " if bullet else start,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _indent(depth: int) -> str:
    return "  " * depth


if __name__ == "__main__":
    sys.stdout.write(example_configuration())
