"""Options and arguments that several commands have, and what a shell completes of them."""

import contextlib
from typing import Annotated

import typer

HERE = "http://127.0.0.1:8000"

_PATIENCE_OF_A_SHELL_SECONDS = 1.0


def _model_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return what a shell may complete: nothing where no service tells at once, for nobody has asked for an error."""
    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415 - `serve` needs none of this

    with contextlib.suppress(ServiceUnavailableError):
        url = context.params.get("url") or HERE
        with contextlib.closing(Client(url, timeout_seconds=_PATIENCE_OF_A_SHELL_SECONDS)) as client:
            return [id_ for id_ in client.models() if id_.startswith(incomplete)]
    return []


Url = Annotated[str, typer.Option(envvar="HOMELAB_AI_URL", help="Where the service is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Its id, an alias or its hub name.", autocompletion=_model_ids)
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The model. Without: the service's default.", autocompletion=_model_ids)
]
