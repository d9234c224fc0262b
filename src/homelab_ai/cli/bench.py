"""`homelab-ai bench`: what the running service does on its machine, with its models."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from homelab_ai.cli.measuring import Measured


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models to measure. Without any: those that have been loaded since the service started."),
    ] = None,
    url: Annotated[str, typer.Option(envvar="HOMELAB_AI_URL", help="Where the service is.")] = "http://127.0.0.1:8000",
    *,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each kind of request is repeated.")] = 3.0,
    cold: Annotated[
        bool, typer.Option(help="Unload each model first, and time its first answer (needs the scope admin).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rather than a table.")] = False,
) -> None:
    """Measure the running service, as its clients see it: how soon it answers, and how much it does in a second.

    Its API key, where it wants one, is taken from HOMELAB_AI_API_KEY. Others who use it meanwhile are slowed down, and
    slow this down.
    """
    from rich.console import Console  # noqa: PLC0415 - `serve` is to start in a moment, and needs none of this
    from rich.markup import escape  # noqa: PLC0415

    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415
    from homelab_ai.cli.measuring import measure  # noqa: PLC0415

    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        offered = Client(url).models()
        # No others: to be loaded, they might have to be downloaded first, and nobody asked for that.
        chosen = models or [id_ for id_, model in offered.items() if model["enabled"] and model["loads"]]
        if not chosen:
            errors.print("No model has been loaded since the service started; say which to measure: bench MODEL")
            raise typer.Exit(2)
        if unknown := [name for name in chosen if name not in offered]:
            errors.print(f"There is no model {unknown[0]!r} here; there are {', '.join(offered)}")
            raise typer.Exit(3)
        found = []
        for id_ in chosen:
            with errors.status(f"measuring {escape(id_)} ..."):
                found.append(measure(url, offered[id_], seconds, cold=cold))
    except ServiceUnavailableError as error:
        errors.print(str(error))
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps({"url": url, "models": [asdict(model) for model in found]}, indent=2) + "\n")
    else:
        for measured in found:
            _print(measured)


def _print(model: "Measured") -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(highlight=False)
    runs_on = f"{model.backend}, {model.precision} on {model.device}, {model.memory_bytes / 1e6:,.0f} MB"
    console.print(f"[bold]{escape(model.id)}[/bold]  {runs_on}")
    items = "texts" if model.type == "text_embedding" else "images"
    table = Table("", "median", "95 of 100 within", f"{items} a second", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for each in model.figures:
        table.add_row(each.what, _shown(each.median_seconds), _shown(each.p95_seconds), f"{each.per_second:,.1f}")
    console.print(table)


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
