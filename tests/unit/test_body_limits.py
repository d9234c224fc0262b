"""How much of the bodies of all requests together is held."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from homelab_ai.api.reading import BodyLimits
from homelab_ai.errors import ResourceExhausted

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
