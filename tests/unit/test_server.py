"""How `uvicorn main:app` comes to the service's own protocol, and that what is documented of its limits is so."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.h11_impl import H11Protocol

from homelab_ai import server
from homelab_ai.api import access, client, reading
from homelab_ai.server import Edge, Protocol
from support.server import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "edge.md").read_text()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts and ends when it is told to."""
    for phase in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})


def protocol_after_start(http: type[asyncio.Protocol] | str) -> type[asyncio.Protocol]:
    """What uvicorn handles connections with, once the application has started."""
    config = Config(Edge(application), http=http, log_config=None)

    async def start_and_end() -> None:
        lifespan = LifespanOn(config)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(start_and_end())
    return config.http_protocol_class


class Another(H11Protocol):
    """Somebody else's."""


class OurOwn(Protocol):
    """With other limits, say."""


@pytest.mark.parametrize("http", ["auto", "h11", H11Protocol])
def test_what_uvicorn_would_take_by_itself_is_replaced(http: type[asyncio.Protocol] | str) -> None:
    assert protocol_after_start(http) is Protocol


def test_uvicorn_believes_nobody_about_addresses() -> None:
    config = Config(Edge(application), proxy_headers=True, forwarded_allow_ips="*", log_config=None)

    async def start_and_end() -> None:
        lifespan = LifespanOn(config)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(start_and_end())
    assert type(config.loaded_app) is Edge


def test_httptools_is_replaced_too() -> None:
    pytest.importorskip("httptools")
    assert protocol_after_start("httptools") is Protocol


def said(log: pytest.LogCaptureFixture) -> set[str]:
    return {record.getMessage() for record in log.records if record.name == "homelab_ai.server"}


def test_what_was_chosen_on_purpose_stays_and_is_warned_about(log: pytest.LogCaptureFixture) -> None:
    assert protocol_after_start(OurOwn) is OurOwn
    assert said(log) == set()
    assert protocol_after_start(Another) is Another
    assert said(log) == {
        "this HTTP implementation sets slow clients no limit; start with --http h11, or homelab-ai serve"
    }


@pytest.mark.anyio
async def test_other_servers_are_left_alone() -> None:
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup" if not told else "lifespan.shutdown"}

    async def send(message: Message) -> None:
        told.append(message)

    await Edge(application)({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in told] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_limits_are_those_that_are_documented() -> None:
    connection = server._Connection
    for said in (
        f"{connection.most_bytes // 1024} KiB, {connection.most_headers} headers",
        f"| {Protocol.head_seconds:g} s |",
        f"{Protocol.unread_bytes // 1024} KiB in {Protocol.unread_seconds:g} s",
        f"| {Protocol.most_connections} |",
        f"{connection.least_chunk_bytes} bytes each on average, once there are {connection.most_chunks:,}",
        f"{reading._BODIES_AT_ONCE} times `limits.max_body_mb`",
        f"{access._LONGEST_PATH:,} characters, {client._MOST_ENTRIES} entries",
    ):
        assert said in DOCUMENT
