"""`homelab-ai load` and `homelab-ai unload`: a model in memory before it is needed, or its memory back now."""

import contextlib
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

import typer

from homelab_ai.cli.options import HERE, AsJson, ModelName, Url
from homelab_ai.cli.running import INTERRUPTED, path_of, service

if TYPE_CHECKING:
    from homelab_ai.cli.client import Client

_LOOK_SECONDS = 0.5


def load(model: ModelName, *, url: Url = HERE, as_json: AsJson = False) -> None:
    """Load a model now, rather than with its next request, and wait until that is done. Downloads it where need be."""
    from homelab_ai.cli import output  # noqa: PLC0415 - `serve` needs none of this

    with service(url) as client:
        before = client.get(path_of(model))
        id_, started = before["id"], time.monotonic()
        outcome: Future[dict[str, Any]] = Future()
        threading.Thread(target=_ask_until_loaded, args=(url, id_, outcome), daemon=True).start()
        try:
            _show_until(outcome, client, id_)
            loaded = outcome.result()
        except KeyboardInterrupt:
            output.errors().print(f"The load goes on without you: homelab-ai load {id_} waits for it again")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        output.show_json(loaded)
    elif before["state"] == "ready":
        print(f"{id_} is loaded already")
    else:
        took, takes = time.monotonic() - started, output.memory(loaded["memory_bytes"] + loaded["gpu_memory_bytes"])
        print(f"{id_} is loaded after {took:.1f} s: {takes}, {loaded['backend']} on {loaded['device']}")


def unload(model: ModelName, *, url: Url = HERE, as_json: AsJson = False) -> None:
    """Unload a model, once the requests that use it are answered, and wait until its memory is free again."""
    from homelab_ai.cli import output  # noqa: PLC0415

    with service(url) as client:
        before = client.get(path_of(model))
        with output.errors().status(f"waiting for the last requests of {before['id']} ..."):
            left = client.post(path_of(before["id"], "/unload"))
    if as_json:
        output.show_json(left)
    elif left["state"] == "draining":
        print(f"{left['id']} is still at work, and goes when its {left['active_requests']} last requests are answered")
    elif freed := output.memory(before["memory_bytes"] + before["gpu_memory_bytes"]):
        print(f"{left['id']} is unloaded: {freed} free again")
    else:
        print(f"{left['id']} is not loaded")


def _show_until(done: "Future[Any]", client: "Client", model: str) -> None:
    """Show what the model is doing until it is loaded, or cannot be. Raises `ServiceUnavailableError`."""
    from homelab_ai.cli import output  # noqa: PLC0415
    from homelab_ai.cli.pulling import follow  # noqa: PLC0415

    console = output.errors()
    while not done.done():
        with console.status(f"loading {model} ..."):
            wait([done], timeout=_LOOK_SECONDS)
            while not done.done() and client.get(path_of(model))["state"] != "downloading":
                wait([done], timeout=_LOOK_SECONDS)
        if not done.done():
            follow(client, model)


def _ask_until_loaded(url: str, model: str, outcome: "Future[dict[str, Any]]") -> None:
    """Have the model loaded, however long that takes. On a connection of its own: another one looks on meanwhile."""
    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415

    try:
        with contextlib.closing(Client(url)) as client:
            while True:
                try:
                    outcome.set_result(client.post(path_of(model, "/load")))
                except ServiceUnavailableError as error:
                    busy = error.code == "RESOURCE_EXHAUSTED"
                    if busy and client.get(path_of(model))["state"] == "downloading":
                        time.sleep(_LOOK_SECONDS)
                    elif error.code != "TIMEOUT":  # which says how long a request may take; the load goes on
                        raise
                else:
                    return
    except ServiceUnavailableError as error:
        outcome.set_exception(error)
