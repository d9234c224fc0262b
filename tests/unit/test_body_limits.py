"""How much of the bodies of all requests together is held."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from homelab_ai.api.reading import BodyLimits, take_as_body
from homelab_ai.errors import PayloadTooLarge, ResourceExhausted, ServiceError

pytestmark = pytest.mark.anyio

SCOPE: Scope = {"type": "http", "headers": []}


async def unsent(_: Message) -> None:
    raise AssertionError("nothing is answered here")


async def reads_and_waits(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await scope["enough"].wait()


async def test_the_bodies_of_all_requests_together_have_a_limit_and_leave_when_they_are_answered() -> None:
    limits = BodyLimits(reads_and_waits, max_bytes=lambda: 100, timeout_seconds=10)
    enough = asyncio.Event()

    async def ask(size: int) -> None:
        async def body() -> Message:
            return {"type": "http.request", "body": b"a" * size, "more_body": False}

        await limits({**SCOPE, "enough": enough}, body, unsent)

    held = [asyncio.create_task(ask(100)) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as raised:
        await ask(1)
    assert raised.value.retry_after_seconds
    enough.set()
    await asyncio.gather(*held)
    await asyncio.gather(*[ask(100) for _ in range(8)])


async def test_what_is_fetched_for_a_request_counts_as_its_body() -> None:
    enough = asyncio.Event()
    refusals: list[ServiceError] = []

    async def fetches(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for size in scope["fetches"]:
            try:
                take_as_body(Request(scope), size)
            except ServiceError as refusal:
                refusals.append(refusal)
        await enough.wait()

    limits = BodyLimits(fetches, max_bytes=lambda: 100, timeout_seconds=10)

    async def ask(*sizes: int) -> Scope:
        async def body() -> Message:
            return {"type": "http.request", "body": b"a" * 10, "more_body": False}

        scope = {**SCOPE, "fetches": sizes}
        await limits(scope, body, unsent)
        return scope

    asking = [asyncio.create_task(ask(60, 31, 30)) for _ in range(7)]
    await asyncio.sleep(0)
    assert [type(refusal) for refusal in refusals] == [PayloadTooLarge] * 7
    assert "with the images that are fetched for it is larger than 100 bytes" in refusals[0].message
    refusals.clear()
    asking += [asyncio.create_task(ask(40)), asyncio.create_task(ask(45))]
    await asyncio.sleep(0)
    assert [type(refusal) for refusal in refusals] == [ResourceExhausted]
    enough.set()
    scopes = await asyncio.gather(*asking)
    take_as_body(Request(scopes[0]), 50)  # what comes too late is held by nobody
    assert limits._held == 0
    assert not refusals[1:]
