"""`homelab-ai`: the command line."""

import contextlib
import errno
from typing import Annotated

import typer

from homelab_ai.cli.bench import bench
from homelab_ai.cli.caption.command import caption
from homelab_ai.cli.config import config
from homelab_ai.cli.crawl.command import crawl
from homelab_ai.cli.doctor.command import doctor
from homelab_ai.cli.embed.command import embed
from homelab_ai.cli.key import key
from homelab_ai.cli.listing import ls, ps
from homelab_ai.cli.loading import load, unload
from homelab_ai.cli.offering import add, change, rm
from homelab_ai.cli.pulling import pull
from homelab_ai.cli.serve import serve

# Markdown: of plain text, all paragraphs but the first keep the line breaks that they have in the code.
cli = typer.Typer(name="homelab-ai", no_args_is_help=True, rich_markup_mode="markdown")
cli.command()(serve)
cli.command()(ls)
cli.command()(ps)
cli.command()(add)
cli.command()(change)
cli.command()(rm)
cli.command()(pull)
cli.command()(load)
cli.command()(unload)
cli.command()(embed)
cli.command()(caption)
cli.command()(crawl)
cli.command()(bench)
cli.command()(doctor)
cli.add_typer(key, name="key")
cli.add_typer(config, name="config")


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        print(version("homelab-ai-api"))
        raise typer.Exit


@cli.callback()
def _commands(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Text embeddings, image captions and readable web pages for every app in a home."""


def main() -> None:
    """Run the command line."""
    try:
        with contextlib.ExitStack() as ended:
            ended.callback(print, end="", flush=True)  # now: the interpreter, at its end, would say it its own way
            cli()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        from homelab_ai.cli.ending import output_failed  # noqa: PLC0415 - `serve` needs none of this

        output_failed(error)  # of any other file it has been said which
