"""`homelab-ai add`, `change` and `rm`: which models are on offer, from now on and after every restart."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from homelab_ai.cli.options import HERE, AsJson, ModelName, Url
from homelab_ai.cli.running import path_of, service


class Kind(StrEnum):
    """What a model does."""

    text_embedding = "text_embedding"
    image_caption = "image_caption"


def add(
    kind: Annotated[Kind, typer.Argument(metavar="TYPE", help="What it does: text_embedding or image_caption.")],
    id_: Annotated[str, typer.Argument(metavar="ID", help="The name by which requests choose it, such as mine.")],
    hf_model: Annotated[
        str, typer.Argument(metavar="HF_MODEL", help="Its name on the hub, or its folder on the service's machine.")
    ],
    *,
    default: Annotated[
        bool, typer.Option("--default", help="Have it answer requests of its type that name no model.")
    ] = False,
    alias: Annotated[list[str] | None, typer.Option(help="Another name that requests may use. Repeatable.")] = None,
    keep_alive: Annotated[
        float | None, typer.Option(help="Minutes without a request after which it is unloaded; 0 at once, -1 never.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub to stay with.")] = None,
    device: Annotated[str | None, typer.Option(help="Where it runs: cpu, cuda, cuda:0 or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="What it calculates in: float32, bfloat16 or float16.")] = None,
    backend: Annotated[str | None, typer.Option(help="What runs it: openvino or torch.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="How long its vectors have to be.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of each text that are read.")] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Download it now, as `pull` does.")] = False,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Offer one model more. It is downloaded and loaded when it is first asked for, unless you say --pull."""
    from homelab_ai.cli import output  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.cli.pulling import finish_pull  # noqa: PLC0415

    wanted = {
        "type": kind.value,
        "id": id_,
        "hf_model": hf_model,
        "default": default or None,
        "aliases": alias or None,
        "keep_alive_minutes": keep_alive,
        "revision": revision,
        "device": device,
        "precision": precision,
        "backend": backend,
        "dimensions": dimensions,
        "max_length": max_length,
        "pull": pull or None,
    }
    with service(url) as client:
        model = client.post("/api/models", {name: value for name, value in wanted.items() if value is not None})
        if pull:
            finish_pull(client, model["id"], as_json=as_json)
            return
    if as_json:
        output.show_json(model)
    else:
        print(f"{model['id']} is on offer; its first request loads it, and so does: homelab-ai load {model['id']}")


def change(
    model: ModelName,
    *,
    default: Annotated[
        bool, typer.Option("--default", help="Have it answer requests of its type that name no model.")
    ] = False,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether requests may use it.", show_default=False)
    ] = None,
    keep_alive: Annotated[
        float | None, typer.Option(help="Minutes without a request after which it is unloaded; 0 at once, -1 never.")
    ] = None,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Change a model that is on offer."""
    from homelab_ai.cli import output  # noqa: PLC0415

    wanted = {"default": default or None, "enabled": enable, "keep_alive_minutes": keep_alive}
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        print("Say what to change: --default, --enable, --disable or --keep-alive", file=sys.stderr)
        raise typer.Exit(2)
    with service(url) as client:
        changed = client.patch(path_of(model), changes)
    if as_json:
        output.show_json(changed)
    else:
        told = [f"{changed['id']} is {'enabled' if changed['enabled'] else 'disabled'}"]
        told += [f"the default for {changed['type']}"] if changed["default"] else []
        minutes = output.duration(changed["keep_alive_seconds"])
        told += ["stays loaded" if changed["pinned"] else f"unloaded after {minutes} without a request"]
        print(", ".join(told))


def rm(
    model: ModelName,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Remove what was downloaded of it, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Offer a model no longer. Asks first on a terminal. What it has begun is answered."""
    from homelab_ai.cli import output  # noqa: PLC0415

    with service(url) as client:
        found = client.get(path_of(model))
        if not yes and sys.stdin.isatty():
            files = "and what was downloaded of it" if purge else "but leave its files"
            typer.confirm(
                f"Remove {found['id']} ({found['hf_model']}, {found['state']}), {files}?", abort=True, err=True
            )
        removed = client.delete(path_of(model, "?purge=true" if purge else ""))
    if as_json:
        output.show_json(removed)
    else:
        freed = f", and {output.disk(removed['purged_bytes'])} of its files" if purge else ""
        print(f"{removed['id']} is removed{freed}")
