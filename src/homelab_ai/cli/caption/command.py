"""What is typed: `homelab-ai caption`. `cli.ending` says what its exit statuses mean."""

from enum import StrEnum
from typing import Annotated

import typer

from homelab_ai.cli.options import HERE, ModelOption, Url


class Sidecar(StrEnum):
    """What stands in the file beside an image."""

    TXT = "txt"
    JSON = "json"


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders of them, addresses (https://...: the service fetches them), or - for one."
        ),
    ],
    url: Url = HERE,
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="With the folders in folders.")] = False,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write each caption beside its image: photo.jpg.txt. Prints none.")
    ] = False,
    sidecar_format: Annotated[Sidecar, typer.Option(help="txt: the caption; json: the model, too.")] = Sidecar.TXT,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Describe images anew that have such a file.")] = False,
    model: ModelOption = None,
    prompt: Annotated[str | None, typer.Option(help="What to say. Only for models that follow prompts.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, max=1024, help="The longest caption.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
) -> None:
    """Describe images, whole folders of them.

    An image that cannot be described is named, and does not stop the others; the exit status is 1 then. A key, with the
    scope caption (and crawl, for addresses), is taken from HOMELAB_AI_API_KEY.
    """
    from homelab_ai.cli.caption.work import Wishes, describe  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.cli.ending import ending  # noqa: PLC0415

    wishes = Wishes(
        model=model,
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        sidecar=sidecar_format.value if sidecar else None,
        overwrite=overwrite,
        as_json=as_json,
    )
    with ending():
        describe(url, paths, wishes, recursive=recursive)
