"""`homelab-ai`: the command line."""

import typer

from homelab_ai.cli.bench import bench
from homelab_ai.cli.doctor.command import doctor
from homelab_ai.cli.key import key
from homelab_ai.cli.serve import serve

cli = typer.Typer(name="homelab-ai", no_args_is_help=True, add_completion=False)
cli.command()(serve)
cli.command()(bench)
cli.command()(doctor)
cli.add_typer(key, name="key")


@cli.callback()
def _commands() -> None:
    """Text embeddings and image captions for every app in a home."""


def main() -> None:
    """Run the command line."""
    cli()
