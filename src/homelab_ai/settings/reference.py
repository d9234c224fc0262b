"""Writes docs/configuration.md out of the tree in `settings`: what can be set, in the order of the file.

Run as ``python -m homelab_ai.settings.reference > docs/configuration.md``. What a setting expects is not written down a
second time: each is given a value that nothing can be, and what the refusal says is what stands here.
"""

import re
import sys
from collections.abc import Iterator
from types import NoneType
from typing import get_origin

from pydantic import BaseModel, ValidationError

from homelab_ai.settings.example import assignment, flow
from homelab_ai.settings.loading import expectation, variable_of
from homelab_ai.settings.source import is_live
from homelab_ai.settings.values import QUOTES, plain_types, spell
from homelab_ai.settings.walk import Setting, walk

_INTRODUCTION = """\
# Configuration

Every setting has a default, so there is nothing that must be configured. What you change stands in `config.yaml` or in
the environment. [config.example.yaml](../config.example.yaml) has all settings with their defaults, to be copied; this
page has them to be looked up.

## The file

`config.yaml` in the folder that the service is started in; `HOMELAB_AI_CONFIG`, or `--config` of
[`homelab-ai serve`](cli.md#serve), names another. What you leave out keeps its default. A list replaces the default
list as a whole.

```yaml
server:
  host: 0.0.0.0
resources:
  max_memory_gb: 4
security:
  ip_allowlist: [192.168.1.0/24, 127.0.0.1]
```

A mistake stops the start, and is told with its line and with what was expected. `homelab-ai config check` tells it
before, and `homelab-ai config show` which values are in force and where each comes from
([The command line](cli.md#config)).

## The environment

The name of a setting in capitals, with two underscores for each dot, wins over the file. A list is given whole, as in
YAML:

```bash
HOMELAB_AI__SERVER__PORT=8001
HOMELAB_AI__SECURITY__IP_ALLOWLIST='[192.168.1.0/24, 127.0.0.1]'
```

With `_FILE` at its end, a variable names a file that holds the value, such as a Docker secret, and no message quotes
what is in there: `HOMELAB_AI__SECURITY__RATE_LIMIT_URL_FILE=/run/secrets/redis`.

Where the service listens, the command that starts it may say last: `homelab-ai serve --host --port`, `make run` (always
on 127.0.0.1), and `uvicorn main:app`, which knows its own options only.

## Changes while it runs

The service reads the file anew when it changes. What takes effect **without a restart** does so within two seconds, all
of it together. With SIGHUP the file is read at once, and so are those that variables name; but SIGHUP ends a service
that runs in a terminal. A file that cannot be used is reported in the log, and the last settings stay in force
([When a change takes effect](security.md#when-a-change-takes-effect)).
"""
_NOTHING = object()
"""What no setting can be."""


def reference() -> str:
    """Return the text of docs/configuration.md."""
    return "\n".join((_INTRODUCTION, *(part for setting in walk() for part in _part(setting))))


def slug(setting: Setting) -> str:
    """Return the anchor of a setting, as GitHub and the site make it of its title."""
    return spell(setting.place).replace(".", "")


def _part(setting: Setting) -> Iterator[str]:
    description = _linked(setting.field.description or "")
    yield f"{'#' * (len(setting.place) + 1)} {spell(setting.place)}\n\n{description}\n"
    if setting.is_section:
        return
    entries = [*setting.of_entries()]
    yield from _default(setting)
    if not entries:
        yield f"- Value: {_expected(setting)}"
    yield f"- Variable: `{variable_of(setting.place)}`"
    yield f"- Takes effect: {'**without a restart**' if is_live(spell(setting.place)) else 'with the next start'}\n"
    if entries:
        yield "Each entry has:\n\n| name | default | what it is |\n|---|---|---|"
        yield "".join(map(_row, entries))


def _default(setting: Setting) -> Iterator[str]:
    *above, name = map(str, setting.place)
    lines = [*assignment(name, setting.default, len(above))]
    if len(lines) == 1:
        yield f"- Default: `{flow(setting.default)}`"
    else:  # with what it stands in, so that it can be copied
        sections = [f"{'  ' * depth}{section}:" for depth, section in enumerate(above)]
        yield "```yaml\n# the default\n" + "\n".join([*sections, *lines]) + "\n```\n"


def _row(setting: Setting) -> str:
    default = "required" if setting.field.is_required() else f"`{flow(setting.default)}`"
    reserved = " No effect in this version." if setting.reserved else ""
    text = f"{_linked(setting.field.description or '')}{reserved} *Value: {_expected(setting)}.*"
    return f"| `{setting.name}` | {default} | {text.replace('|', chr(92) + '|')} |\n"


def _expected(setting: Setting) -> str:
    types = {*plain_types(setting.field.annotation)}
    is_list = any(get_origin(kind) is tuple for kind in types)
    phrase = _refusal(setting.owner, setting.name, [_NOTHING] if is_list else _NOTHING)
    phrase = _escaped(phrase.removeprefix("expected ").removesuffix(f" {QUOTES}"))
    return f"{'a list; each entry: ' if is_list else ''}{phrase}{', or null' if NoneType in types else ''}"


def _refusal(owner: type[BaseModel], name: str, value: object) -> str:
    try:
        owner.model_validate({name: value})
    except ValidationError as error:
        return next(expectation(details) for details in error.errors() if details["loc"][0] == name)
    raise AssertionError(name)


def _linked(text: str) -> str:
    """Make links of the names of settings in a text."""
    slugs = {spell(setting.place): slug(setting) for setting in walk() if not setting.is_section}
    names = "|".join(sorted(map(re.escape, slugs), key=len, reverse=True))
    return re.sub(
        rf"(?<![\w.])(?:{names})(?![\w.]*\w)", lambda found: f"[`{found[0]}`](#{slugs[found[0]]})", _escaped(text)
    )


def _escaped(text: str) -> str:
    """Return text without what Markdown would take for its own: tags, emphasis and formulas."""
    return re.sub(r"([<>*$])", r"\\\1", text)


if __name__ == "__main__":
    sys.stdout.write(reference())
