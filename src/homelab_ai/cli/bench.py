"""`homelab-ai bench`: what the running service does on its machine, with its models."""

import base64
import json
import random
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_CLIENTS = {"text_embedding": 8, "image_caption": 4}
_LEAST_SAMPLES = 3
_VOCABULARY = (
    "a about above attic battery bicycle boiler bright broken cable camera candle cellar charger child cold "
    "cupboard dark dinner door drawer dry evening fence filter fridge garage garden gate grandmother green guest "
    "heating holiday invoice is key kitchen ladder lamp letter light lock loud meter mirror morning neighbour new "
    "night noise old on open paint parcel password photo plant pump quiet radio rain receipt recipe red repair roof "
    "router screw service shed shelf slow smoke socket spring stairs summer table tap the thermostat tomato tool "
    "under visitor wall warm washing water window winter wire with yellow yesterday"
)


@dataclass(frozen=True)
class Figure:
    """What one kind of request takes."""

    what: str
    median_seconds: float
    p95_seconds: float
    per_second: float
    """Texts or images, all clients together."""


@dataclass
class Measured:
    """One model."""

    id: str
    type: str
    backend: str | None = None
    precision: str | None = None
    device: str | None = None
    memory_bytes: int = 0
    figures: list[Figure] = field(default_factory=list)


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
    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415 - the service needs none of it

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
            raise typer.Exit(2)
        found = []
        for id_ in chosen:
            with errors.status(f"measuring {escape(id_)} ..."):
                found.append(_measured(lambda: Client(url), offered[id_], seconds, cold=cold))
    except ServiceUnavailableError as error:
        errors.print(str(error))
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps({"url": url, "models": [asdict(model) for model in found]}, indent=2) + "\n")
    else:
        _print(found)


def _measured(connect: Callable[[], Any], model: dict[str, Any], seconds: float, *, cold: bool) -> Measured:
    """Measure one model. Raises `ServiceUnavailableError`."""
    client, kind, path = connect(), model["type"], f"/api/models/{model['id']}"
    dice = random.Random(1)  # noqa: S311 - the same requests for everybody
    measured = Measured(model["id"], kind)

    def repeated(what: str, request: Callable[[], tuple[str, dict[str, Any], int]], clients: int = 1) -> None:
        measured.figures.append(_repeated(connect, what, request, clients, seconds))

    def texts(count: int, shortest: int, longest: int) -> tuple[str, dict[str, Any], int]:
        some = [_text(dice, dice.randint(shortest, longest)) for _ in range(count)]
        return "/api/embed", {"texts": some, "model": model["id"]}, count

    def image() -> tuple[str, dict[str, Any], int]:
        return "/api/caption", {"image": _picture(dice), "model": model["id"]}, 1

    def one() -> tuple[str, dict[str, Any], int]:
        return texts(1, 6, 6) if kind == "text_embedding" else image()

    _timed(client, *one()[:2])  # the first time ever, a model may be downloaded and exported
    if cold:
        client.post(f"{path}/unload")
        first = _timed(client, *one()[:2])
        measured.figures.append(Figure("the first answer, when it was not loaded", first, first, 1 / first))
    if kind == "text_embedding":
        repeated("one short text", one)
        repeated("32 texts of 5 to 150 words", lambda: texts(32, 5, 150))
        repeated("a short text each, 8 clients", one, _CLIENTS[kind])
    else:
        repeated("one image", one)
        repeated("an image each, 4 clients", one, _CLIENTS[kind])
    about = client.get(path)
    measured.backend, measured.precision = about["backend"], about["precision"]
    measured.device, measured.memory_bytes = about["device"], about["memory_bytes"] + about["gpu_memory_bytes"]
    return measured


def _repeated(
    connect: Callable[[], Any],
    what: str,
    request: Callable[[], tuple[str, dict[str, Any], int]],
    clients: int,
    seconds: float,
) -> Figure:
    """Have so many clients, each with a connection of its own, ask again and again for so long."""
    started = time.perf_counter()

    def ask(client: Any) -> Iterator[tuple[float, int]]:
        done = 0
        while done < _LEAST_SAMPLES or time.perf_counter() < started + seconds:
            path, body, items = request()
            yield _timed(client, path, body), items
            done += 1

    with ThreadPoolExecutor(clients) as pool:
        samples = [sample for some in pool.map(lambda _: list(ask(connect())), range(clients)) for sample in some]
    took = time.perf_counter() - started
    times = [seconds for seconds, _ in samples]
    return Figure(
        what,
        median_seconds=statistics.median(times),
        p95_seconds=statistics.quantiles(times, n=20, method="inclusive")[-1],
        per_second=sum(items for _, items in samples) / took,
    )


def _timed(client: Any, path: str, body: dict[str, Any]) -> float:
    started = time.perf_counter()
    client.post(path, body)
    return time.perf_counter() - started


def _text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(_VOCABULARY.split(), k=words))


def _picture(dice: random.Random) -> str:
    """A PNG of 640 x 480 in base64, with nothing to be seen in it: stripes of random colours (RFC 2083)."""
    row = b"".join(bytes(dice.choices(range(256), k=3)) * 32 for _ in range(20))
    header = struct.pack("!IIBBBBB", 640, 480, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress((b"\0" + row) * 480, 1)), (b"IEND", b"")]
    parts = [
        struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def _print(found: list[Measured]) -> None:
    console = Console(highlight=False)
    for model in found:
        console.print(
            f"[bold]{escape(model.id)}[/bold]  {model.backend}, {model.precision} on {model.device}, "
            f"{model.memory_bytes / 1e6:,.0f} MB"
        )
        items = "texts" if model.type == "text_embedding" else "images"
        table = Table("", "median", "95 of 100 within", f"{items} a second", box=box.SIMPLE_HEAD)
        for column in table.columns[1:]:
            column.justify = "right"
        for each in model.figures:
            table.add_row(each.what, _shown(each.median_seconds), _shown(each.p95_seconds), f"{each.per_second:,.1f}")
        console.print(table)


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
