"""`homelab-ai config`: the configuration that the service would start with here. No service is asked.

Exit status: 0 it can be used; 1 it cannot; 2 the command line is wrong.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from homelab_ai.settings.loading import Traced
    from homelab_ai.settings.values import Place

config = typer.Typer(no_args_is_help=True, help="The configuration: see whether it can be used, and what is in force.")

_MASK = "***"

File = Annotated[
    Path | None, typer.Option("--config", help="The file. Without it: $HOMELAB_AI_CONFIG, or config.yaml here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@config.command()
def check(file: File = None, *, as_json: AsJson = False) -> None:
    """Read the file and the environment as the service does, and say each mistake with its place."""
    from homelab_ai.settings import ConfigurationError, load_settings, reserved_in_use  # noqa: PLC0415 - not for `serve`

    problems: tuple[str, ...] = ()
    warnings: list[str] = []
    try:
        warnings = [f"{name} has no effect in this version" for name in reserved_in_use(load_settings(file))]
    except ConfigurationError as error:
        problems, said = error.problems, str(error)
    if as_json:
        print(json.dumps({"usable": not problems, "problems": problems, "warnings": warnings}, indent=2))
    elif problems:
        print(said, file=sys.stderr)
    else:
        print("\n".join([_found(file), *warnings]))
    if problems:
        raise typer.Exit(1)


@config.command()
def show(file: File = None, *, as_json: AsJson = False) -> None:
    """Print every setting as the service would start with it, and of those that are given, where. Hashes of keys are
    masked, and what else may be a secret.
    """  # noqa: D205 - one paragraph
    from homelab_ai.settings import ConfigurationError  # noqa: PLC0415
    from homelab_ai.settings.loading import load_traced  # noqa: PLC0415
    from homelab_ai.settings.values import spell  # noqa: PLC0415

    try:
        traced = load_traced(file)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        masked = _masked(traced.settings.model_dump(mode="json"), (), traced)
        given_by = {spell(place): origin for place, origin in traced.origins.items()}
        print(json.dumps({"settings": masked, "given_by": given_by}, indent=2))
    else:
        print("\n".join([f"# {_found(file)}", *_lines(traced.settings, (), traced)]))


def _found(file: Path | None) -> str:
    from homelab_ai.settings.loading import path_of  # noqa: PLC0415

    path = path_of(file, os.environ)
    return f"{path.resolve()} can be used" if path.exists() else f"there is no {path} here: the defaults are in force"


def _lines(part: "BaseModel", above: "Place", traced: "Traced") -> Iterator[str]:
    """Write a part as it stands in the file: a setting on each line, or of a list an entry."""
    from pydantic import BaseModel  # noqa: PLC0415

    from homelab_ai.settings.example import flow  # noqa: PLC0415

    indent = "  " * len(above)
    for name in type(part).model_fields:
        value, place = getattr(part, name), (*above, name)
        origin = f"  # {traced.origins[place]}" if place in traced.origins else ""
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, place, traced)
        elif isinstance(value, tuple) and any(isinstance(entry, BaseModel) for entry in value):
            entries = [entry.model_dump(mode="json", exclude_defaults=True) for entry in value]
            yield f"{indent}{name}:{origin}"
            yield from (f"{indent}  - {flow(entry)}" for entry in _masked(entries, place, traced))
        else:
            plain = part.model_dump(mode="json", include={name})[name]
            yield f"{indent}{name}: {flow(_masked(plain, place, traced))}{origin}"


def _masked(value: Any, place: "Place", traced: "Traced") -> Any:
    """Return what may be shown of a value found there, and of those in it."""
    from homelab_ai.settings.loading import is_confidential  # noqa: PLC0415

    if isinstance(value, dict):
        return {name: _masked(inner, (*place, name), traced) for name, inner in value.items()}
    if place in traced.from_files:
        return _MASK
    if isinstance(value, list):
        return [_masked(inner, (*place, index), traced) for index, inner in enumerate(value)]
    return _without_password(value) if is_confidential(place) else value


def _without_password(value: Any) -> str:
    """Of an address where it can be reached; of all else that may be a secret, nothing."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    address = urlsplit(f"{value}")
    who, at, where = address.netloc.rpartition("@")
    if not address.scheme or "@" in f"{address.path}{address.query}{address.fragment}":  # a password with a slash
        return _MASK
    return f"{address.scheme}://{_MASK if who else ''}{at}{where}{address.path}{f'?{_MASK}' if address.query else ''}"
