"""`homelab-ai key`: API keys, made, listed and revoked; by the running service, or in its data folder while none runs.

Exit status: 0 done; 1 no service, or it refuses; 2 the command line is wrong; 3 there is no such key; 4 it does not go
together with what there is (a name that is taken, a key of config.yaml, the last key with the scope admin).
"""

import contextlib
import json
import sys
import urllib.parse
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from homelab_ai.cli.options import HERE, AsJson, Url

if TYPE_CHECKING:
    from homelab_ai.cli.client import Client

key = typer.Typer(no_args_is_help=True, help="API keys: make, list and revoke them.")

_STATUSES = {400: 2, 404: 3, 409: 4}

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Work on the state.db of this folder (data_dir), while no service runs: for who has lost every key."
    ),
]
Name = Annotated[str, typer.Argument(help="Who uses the key, such as photo-album.")]


class _Keys(Protocol):
    """Where keys are kept."""

    def add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make a key, and return what is known of it, itself included."""

    def entries(self) -> list[dict[str, Any]]:
        """Return what is known of each."""

    def remove(self, name: str, *, force: bool) -> None:
        """Revoke one."""


@key.command()
def add(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: embed, caption, crawl, read, admin. May come often; without: all but admin."
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may use, by id. Repeatable; without: all of them.")
    ] = None,
    rate_limit: Annotated[str | None, typer.Option(help="Its own limit, such as 600/minute.")] = None,
    *,
    url: Url = HERE,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: what is kept is its hash. `KEY=$(homelab-ai key add photo-album)`.

    Needs a key with the scope admin in HOMELAB_AI_API_KEY, or --data-dir.
    """
    wanted = {"name": name, "scopes": scope, "models": model, "rate_limit": rate_limit}
    with _keys(url, data_dir) as keys:
        made = keys.add({field: value for field, value in wanted.items() if value is not None})
    print(json.dumps(made, indent=2) if as_json else made["key"])


@key.command()
def ls(url: Url = HERE, data_dir: DataDir = None, *, as_json: AsJson = False) -> None:
    """List the keys: what each opens, where it was made, and when it was last used (since the service started)."""
    with _keys(url, data_dir) as keys:
        found = keys.entries()
    if as_json:
        print(json.dumps({"keys": found}, indent=2))
    else:
        _print(found)


@key.command()
def rm(
    name: Name,
    url: Url = HERE,
    data_dir: DataDir = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even if it is the last key with the scope admin.")] = False,
) -> None:
    """Revoke a key that was made at run time. Those of config.yaml are removed there."""
    with _keys(url, data_dir) as keys:
        keys.remove(name, force=force)


class _Service:
    """The keys of the running service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make a key. This and the others raise `ServiceUnavailableError`."""
        return self._client.post("/api/keys", wanted)

    def entries(self) -> list[dict[str, Any]]:
        """Return what may be told of each key."""
        entries: list[dict[str, Any]] = self._client.get("/api/keys")["keys"]
        return entries

    def remove(self, name: str, *, force: bool) -> None:
        """Revoke a key."""
        self._client.delete(f"/api/keys/{urllib.parse.quote(name, safe='')}{'?force=true' if force else ''}")


@contextlib.contextmanager
def _keys(url: str, data_dir: Path | None) -> Iterator[_Keys]:
    """Yield the keys, and end the program with a sentence where something stands in the way."""
    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415 - `serve` needs none of this
    from homelab_ai.cli.stored_keys import StoredKeys  # noqa: PLC0415
    from homelab_ai.errors import ServiceError  # noqa: PLC0415
    from homelab_ai.state import State, StateError  # noqa: PLC0415

    try:
        if data_dir is None:
            with contextlib.closing(Client(url)) as client:
                yield _Service(client)
        else:
            if not (data_dir / "state.db").is_file():
                print(f"There is no state.db in {data_dir}: no service has been started there", file=sys.stderr)
                raise typer.Exit(2)
            with contextlib.closing(State.open(data_dir)) as state:
                yield StoredKeys(state)
    except (ServiceUnavailableError, ServiceError) as error:
        message = str(error).replace("?force=true", "--force").replace("GET /api/keys lists", "homelab-ai key ls lists")
        print(message, file=sys.stderr)
        raise typer.Exit(_STATUSES.get(error.status or 0, 1)) from None
    except StateError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _print(found: list[dict[str, Any]]) -> None:
    from homelab_ai.cli import output  # noqa: PLC0415

    rows = [
        (
            each["name"],
            " ".join(each["scopes"]),
            " ".join(each["models"]) if each["models"] is not None else "all",
            each["rate_limit"] or "",
            {"config": "config.yaml", "state": "run time"}[each["source"]],
            _day(each["created_at"]),
            _day(each["last_used_at"]) or "not since the start",
        )
        for each in found
    ]
    columns = ("name", "scopes", "models", "rate limit", "from", "made", "last used")
    output.show(columns, rows, long=("scopes", "models", "made", "last used"))


def _day(moment: str | None) -> str:
    """`2026-11-26T06:13:42.123Z` as `2026-11-26 06:13`, or whatever time it was here."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}" if moment else ""
