"""`homelab-ai pull`: models downloaded before they are needed, and how far that is."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homelab_ai.cli.offering import Kind
from homelab_ai.cli.options import HERE, AsJson, ModelName, Url
from homelab_ai.cli.running import INTERRUPTED, path_of, service

if TYPE_CHECKING:
    from homelab_ai.cli.client import Client


def pull(
    model: ModelName,
    *,
    kind: Annotated[
        Kind | None,
        typer.Option("--type", help="What it does, where it is not on offer yet: it is added as such, and downloaded."),
    ] = None,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Download a model from the hub, or bring it up to date. One that was broken off goes on where it was.

    `pull organisation/name --type text_embedding` has a model that is not on offer yet added first, by the last part of
    its name. Ctrl-C stops watching; the download goes on.
    """
    from homelab_ai.cli.client import ServiceUnavailableError  # noqa: PLC0415 - `serve` needs none of this

    with service(url) as client:
        try:
            found = client.post(path_of(model, "/pull"))
        except ServiceUnavailableError as error:
            if error.code != "MODEL_NOT_FOUND" or "/" not in model:
                raise
            if kind is None:
                mend = f"homelab-ai pull {model} --type text_embedding (or image_caption) adds it"
                print(f"{error}. {mend}", file=sys.stderr)
                raise typer.Exit(3) from None
            # Where that name is taken: `add` takes another one.
            wanted = {"type": kind.value, "id": model.rpartition("/")[2], "hf_model": model, "pull": True}
            found = client.post("/api/models", wanted)
        finish_pull(client, found["id"], as_json=as_json)


def finish_pull(client: "Client", model: str, *, as_json: bool) -> None:
    """Follow a download to its end, and say how it ended. Raises `ServiceUnavailableError` where the service goes."""
    from homelab_ai.cli import output  # noqa: PLC0415

    download = follow(client, model)
    if as_json:
        output.show_json(client.get(path_of(model)))
    elif download["state"] == "done":
        print(f"{model} is here: {output.disk(download['bytes'])}")
    if download["state"] != "done":
        print(f"{model} could not be downloaded: {download['failure']}", file=sys.stderr)
        raise typer.Exit(1)


def follow(client: "Client", model: str) -> dict[str, Any]:
    """Show a download as it goes on, and return how it ended.

    Raises `ServiceUnavailableError` where the service goes meanwhile. Ends the program on Ctrl-C.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    from homelab_ai.cli import output  # noqa: PLC0415
    from homelab_ai.cli.client import ServiceUnavailableError  # noqa: PLC0415

    console = output.errors()
    event: dict[str, Any] = {"state": "running"}
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = None
            for event in client.events(path_of(model, "/pull")):
                left = f"{output.duration(event['seconds_left'])} left" if event["seconds_left"] else ""
                if bar is None and event["total_bytes"]:
                    # Only now: what was here before is not to count as speed.
                    bar = progress.add_task(model, total=event["total_bytes"], completed=event["bytes"], left=left)
                elif bar is not None:
                    progress.update(bar, completed=event["bytes"], left=left)
    except KeyboardInterrupt:
        console.print(f"The download goes on without you: homelab-ai pull {model} shows it again", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    if event["state"] == "running":
        raise ServiceUnavailableError(
            f"The service has gone before the end. What has come is kept: homelab-ai pull {model} goes on from there"
        )
    return event
