"""What the running service does for its clients: how soon it answers, and how much it does in a second."""

import base64
import random
import statistics
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from homelab_ai.cli.client import Client

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


_Asked = tuple[str, dict[str, Any], int]
"""A request: its path, its body, and how many texts or images are in it."""


def measure(url: str, model: dict[str, Any], seconds: float, *, cold: bool) -> Measured:
    """Measure one model, as `GET /api/models` describes it, each kind of request for so long.

    `cold`: unload it first, too. Raises `ServiceUnavailableError`.
    """
    client, kind, path = Client(url), model["type"], f"/api/models/{model['id']}"
    dice = random.Random(1)  # noqa: S311 - the same requests for everybody
    measured = Measured(model["id"], kind)

    def repeated(what: str, request: Callable[[], _Asked], clients: int = 1) -> None:
        measured.figures.append(_repeated(url, what, request, clients, seconds))

    def texts(count: int, shortest: int, longest: int) -> _Asked:
        some = [_text(dice, dice.randint(shortest, longest)) for _ in range(count)]
        return "/api/embed", {"texts": some, "model": model["id"]}, count

    def image() -> _Asked:
        return "/api/caption", {"image": _picture(dice), "model": model["id"]}, 1

    def one() -> _Asked:
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
    url: str,
    what: str,
    request: Callable[[], _Asked],
    clients: int,
    seconds: float,
) -> Figure:
    """Have so many clients, each with a connection of its own, ask again and again for so long."""
    started = time.perf_counter()

    def ask(client: Client) -> Iterator[tuple[float, int]]:
        done = 0
        while done < _LEAST_SAMPLES or time.perf_counter() < started + seconds:
            path, body, items = request()
            yield _timed(client, path, body), items
            done += 1

    with ThreadPoolExecutor(clients) as pool:
        samples = [sample for some in pool.map(lambda _: list(ask(Client(url))), range(clients)) for sample in some]
    took = time.perf_counter() - started
    times = [seconds for seconds, _ in samples]
    return Figure(
        what,
        median_seconds=statistics.median(times),
        p95_seconds=statistics.quantiles(times, n=20, method="inclusive")[-1],
        per_second=sum(items for _, items in samples) / took,
    )


def _timed(client: Client, path: str, body: dict[str, Any]) -> float:
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
