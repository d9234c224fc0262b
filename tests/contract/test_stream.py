"""`GET /api/stream` as its reader decides how fast it goes: nothing is queued for who does not read."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from homelab_ai.api import stream, watching
from homelab_ai.api.services import Services
from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import FakeHosts

pytestmark = pytest.mark.anyio

ROOM = logging.getLogger("homelab_ai.room")


class Reader:
    """A client of the stream on this machine, which takes a part of the answer whenever a test says so."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._taken = asyncio.Semaphore(0)

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message.get("body"):
            self._parts.put_nowait(message["body"])
            await self._taken.acquire()  # as the server's own waits for room on the connection

    async def part(self) -> list[tuple[str, dict[str, Any]]]:
        """What comes next, which the service can go on from."""
        events = (await self._parts.get()).decode().strip().split("\n\n")
        self._taken.release()
        parsed = [event.removeprefix("event: ").split("\ndata: ") for event in events]
        return [(name, json.loads(data)) for name, data in parsed]

    async def wait_until_stuck(self) -> None:
        """Wait until the service waits for this client."""
        while self._parts.empty():
            await asyncio.sleep(0)

    def go(self) -> None:
        self._gone.set()


@pytest.fixture
async def reader(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    monkeypatch.setattr(stream, "_EVERY_SECONDS", 0)
    monkeypatch.setattr(watching, "_GOOD_FOR_SECONDS", 0)
    app = create_app(settings, start_host=FakeHosts())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/stream",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50000),
    }
    async with app.router.lifespan_context(app) as state:
        assert state
        reader = Reader(state)  # type: ignore[arg-type]  # a mapping to Starlette, and these services to us
        answering = asyncio.create_task(app({**scope, "state": state}, reader.receive, reader.send))
        yield reader
        reader.go()
        with contextlib.suppress(asyncio.CancelledError):
            await answering


async def test_who_does_not_read_misses_what_was_and_sees_what_is(reader: Reader) -> None:
    assert [name for name, _ in await reader.part()] == ["history"]
    assert [name for name, _ in await reader.part()][:2] == ["status", "models"]
    await reader.wait_until_stuck()
    for number in range(250):
        ROOM.info("line %d", number)
    reader.services["metrics"].answered("minilm", 1.5)

    assert [name for name, _ in await reader.part()] == ["status"], "what was under way when it fell behind"

    missed = await reader.part()
    assert [name for name, _ in missed] == ["status", *["log"] * 101], "all statuses between are left out"
    assert [model["p95_seconds"] for model in missed[0][1]["models"] if model["id"] == "minilm"] == [1.5]
    lines = [data["message"] for _, data in missed[1:]]
    assert lines == ["150 lines are left out here; the logs have them", *(f"line {n}" for n in range(150, 250))]
    assert missed[1][1].keys() == missed[2][1].keys()


async def test_the_page_is_not_taken_for_load(reader: Reader) -> None:
    requests = reader.services["metrics"].requests
    await reader.part()
    await reader.wait_until_stuck()
    assert requests.active == 0
    assert (await reader.part())[0][1]["requests"]["active"] == 0


async def test_who_goes_leaves_nothing_behind(reader: Reader) -> None:
    requests, places = reader.services["metrics"].requests, reader.services["watching"]
    await reader.wait_until_stuck()
    assert (requests.totals.total, places._streams) == (0, 1)
    reader.go()
    while not requests.totals.total:
        await asyncio.sleep(0)
    assert (requests.active, requests.totals.total, places._streams) == (0, 1, 0)


async def test_what_was_before_anybody_looked_is_told(settings: Settings) -> None:
    clock = Clock()
    app = create_app(settings, start_host=FakeHosts(), clock=clock)
    async with app.router.lifespan_context(app) as state:
        assert state
        metrics, history = state["metrics"], state["history"]
        for status in (200, 404, 503):
            metrics.request_begun()
            metrics.request_ended(
                endpoint="other", status=status, seconds=0.1, code=None, request_id="r", stranger=False
            )
        clock.advance(10)
        told = history.told()
    assert (told["requests"], told["errors"], told["queue"], told["memory_bytes"]) == ([3, 0], [1, 0], [0, 0], [0, 0])
    clock.advance(60)
    assert len(history.told()["queue"]) == 2, "it ends with the service"
