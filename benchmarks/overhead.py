"""What each layer of the service costs a request: `python -m benchmarks.overhead`, in a few seconds.

`GET /api/models`, with a key and a rate limit, is given to the whole application, as a server would, and then to the
layers below, one after the other; what a layer costs is the difference to the next. No socket and no model takes part.
`make bench` holds what is around every request (who may enter, how often, the log and the count) to its limit.
"""

import asyncio
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Message

from benchmarks.table import Row
from homelab_ai.api.context import Context, ContextMiddleware
from homelab_ai.api.endpoints import Endpoints
from homelab_ai.api.keys import ALL_SCOPES, Identity, hash_key
from homelab_ai.api.reading import BodyLimits
from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from homelab_ai.telemetry import logs
from homelab_ai.telemetry.metrics import Metrics

_KEY = "the-key-number-"
_ROUNDS = 21
_REQUESTS = 300
_LIMIT_MICROSECONDS = 150


def main() -> None:
    """Measure every layer, in turns, and print microseconds a request."""
    console, table = (
        Console(highlight=False),
        Table(title=f"GET /api/models, medians of {_ROUNDS} rounds of {_REQUESTS}"),
    )
    for column in ("from here inward", "µs", "of which this layer"):
        table.add_column(column, justify="left" if not table.columns else "right")
    costs = _measured()
    for (name, seconds), (_, inner) in zip(costs, [*costs[1:], ("", 0.0)], strict=True):
        table.add_row(name, f"{1e6 * seconds:.1f}", f"{1e6 * (seconds - inner):.1f}")
    console.print(table)
    console.print(f"access, limits, metrics and log together: {_around(costs):.1f} µs (limit {_LIMIT_MICROSECONDS})")
    console.print(f"in the layer ContextMiddleware, to count the request: {1e6 * _counting():.1f} µs")


def measure() -> list[Row]:
    """What a request costs before and after its route, beside its limit."""
    taken = _around(_measured())
    limit = f"limit {_LIMIT_MICROSECONDS} µs"
    what = "access, limits, metrics and log, of a request"
    return [Row(what, f"{taken:.0f} µs", limit, f"{taken / _LIMIT_MICROSECONDS:.2f}", limited=True)]


def _measured() -> list[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        return asyncio.run(_costs(Path(folder), nowhere))


def _around(costs: list[tuple[str, float]]) -> float:
    """Microseconds from the layer that counts and logs to the one inside of access, which reads the body."""
    seconds = dict(costs)
    return 1e6 * (seconds[ContextMiddleware.__name__] - seconds[BodyLimits.__name__])


async def _costs(folder: Path, nowhere: TextIO) -> list[tuple[str, float]]:
    """Return the layers, the outermost first, and what a request takes from each inward, in seconds."""
    folders = {"data_dir": folder / "data", "models_dir": folder / "models"}
    keys = [{"name": f"key {number}", "key_hash": hash_key(f"{_KEY}{number}".encode())} for number in range(20)]
    app = create_app(Settings.model_validate({**folders, "security": {"api_keys": keys, "rate_limit": "9999999/day"}}))
    async with app.router.lifespan_context(app) as state:
        (handler,) = (each for each in logs.access_log.handlers if isinstance(each, logging.StreamHandler))
        handler.setStream(nowhere)
        layers: list[ASGIApp] = []
        layer: Any = app.build_middleware_stack()
        while layer is not app.router:  # which needs what the layer around it has prepared
            layers.append(layer)
            layer = getattr(layer, "_app", None) or layer.app
        contexts = next(n for n, each in enumerate(layers) if isinstance(each, ContextMiddleware))
        taken: list[list[float]] = [[] for _ in layers]
        for _ in range(_ROUNDS):
            for layer, seconds in zip(layers, taken, strict=True):
                inside = layers.index(layer) > contexts
                seconds.append(await _request_seconds(layer, {"app": app, "state": state}, inside=inside))
    return [(_name(layer), statistics.median(seconds)) for layer, seconds in zip(layers, taken, strict=True)]


def _name(layer: Callable[..., Any]) -> str:
    return getattr(layer, "__name__", type(layer).__name__)


async def _request_seconds(layer: ASGIApp, more: Mapping[str, Any], *, inside: bool) -> float:
    """Return what a request takes from this layer inward; `inside`: of the one that gives it its context."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    started = time.perf_counter()
    for _ in range(_REQUESTS):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/models",
            "root_path": "",
            "query_string": b"",
            "headers": [
                (b"host", b"localhost"),
                (b"user-agent", b"benchmark"),
                (b"authorization", f"Bearer {_KEY}7".encode()),
            ],
            "client": ("127.0.0.1", 50000),
            **more,
        }
        if inside:
            scope["homelab_ai.context"] = Context("benchmark", identity=Identity("benchmark", ALL_SCOPES))
        await layer(scope, receive, send)
    return (time.perf_counter() - started) / _REQUESTS


def _counting() -> float:
    """Seconds that a request is counted in."""
    metrics, endpoints, rounds = Metrics("0", reasons=[]), Endpoints(), 20_000
    scope = {"path": "/health", "route": type("Route", (), {"path": "/health"})()}
    started = time.perf_counter()
    for _ in range(rounds):
        metrics.request_begun()
        metrics.request_ended(
            endpoint=endpoints.of(scope), status=200, seconds=0.001, code=None, request_id="benchmark", stranger=False
        )
    return (time.perf_counter() - started) / rounds


if __name__ == "__main__":
    main()
