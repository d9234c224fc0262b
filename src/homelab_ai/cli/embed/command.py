"""What is typed: `homelab-ai embed`. `cli.ending` says what its exit statuses mean."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homelab_ai.cli.options import HERE, ModelOption, Url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from homelab_ai.cli.embed.texts import Text


class Format(StrEnum):
    """What a file is, by the end of its name."""

    JSONL = "jsonl"
    NPY = "npy"
    PARQUET = "parquet"


def embed(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files with a text in each line; - is standard input, as without any.")
    ] = None,
    url: Url = HERE,
    *,
    text: Annotated[list[str] | None, typer.Option(help="A text, instead of files. Repeatable.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Each file is one text.")] = False,
    field: Annotated[
        str | None, typer.Option(help="Each line is a JSON object, and its text stands in this field.")
    ] = None,
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .jsonl, .npy or .parquet file. Without: JSON Lines are printed."),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="What the file is, where its name does not say so.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the file anew if it is there already.")] = False,
    similar: Annotated[
        bool, typer.Option("--similar", help="Show which of a few texts are alike, not their vectors.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --similar: JSON rather than a table.")] = False,
) -> None:
    """Turn texts into vectors: the lines of files or of a pipe, or what stands on the command line.

    Millions of them, if need be: they are sent a few hundred at a time, and let the requests of others go first. An API
    key, with the scope embed, is taken from HOMELAB_AI_API_KEY.
    """
    from homelab_ai.cli.embed import work  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.cli.ending import Stop, ending  # noqa: PLC0415

    with ending():
        if similar and output:
            raise Stop("--similar prints a table; it goes without --output", 2)
        order = work.Order(url, model, *_texts(files or [], text or [], field, whole=whole))
        if similar:
            work.compare(order, as_json=as_json)
        elif output:
            work.write(order, output, _format(output, form), force=force)
        elif form in {None, Format.JSONL}:
            work.put(order)
        else:
            raise Stop(f"{form} goes into a file: --output vectors.{form}", 2)


def _texts(
    files: "Sequence[Path]", given: "Sequence[str]", field: str | None, *, whole: bool
) -> "tuple[Iterator[Text], int | None]":
    """Return the texts, and how many bytes they are where that is known. Raises `Stop` where it is not clear which."""
    from homelab_ai.cli.embed import texts  # noqa: PLC0415
    from homelab_ai.cli.ending import Stop  # noqa: PLC0415

    if given and (files or field or whole):
        raise Stop("--text is a text itself; it goes without files, --field and --whole", 2)
    if whole and field:
        raise Stop("--whole and --field go one without the other", 2)
    if given:
        return texts.given(given), None
    if not files and sys.stdin.isatty():
        raise Stop("No texts: name files, pipe lines in, or say --text 'a text'", 2)
    sources = files or [texts.STDIN]
    total = texts.total_bytes(sources)
    if whole:
        return texts.of_whole(sources), total
    return (texts.of_field(sources, field) if field else texts.of_lines(sources)), total


def _format(output: Path, form: Format | None) -> Format:
    from homelab_ai.cli.ending import Stop  # noqa: PLC0415

    try:
        return form or Format(output.suffix.removeprefix(".").lower())
    except ValueError:
        raise Stop(f"{output.name}: its name ends in none of .jsonl, .npy, .parquet; or say --format", 2) from None
