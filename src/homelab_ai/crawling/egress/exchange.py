"""What goes to and fro once it is allowed: one request and its answer, or the bytes of a tunnel."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import h11

from homelab_ai.crawling.egress import messages
from homelab_ai.crawling.egress.ends import End
from homelab_ai.crawling.egress.messages import Malformed
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.patience import Patience
from homelab_ai.crawling.egress.targets import Target
from homelab_ai.models.clock import Clock

ANSWER_SECONDS = 30
"""How long a server may take to send the head of its answer, from the moment that it is connected."""
IDLE_SECONDS = 30
"""How long nothing may move in an answer or a tunnel."""
_MOST_INFORMATIONAL = 20
"""Answers before the answer (100 Continue, 103 Early Hints) that a server may send."""

_HUNG_UP = "it has hung up without an answer"
_NOT_HTTP = "its answer is not valid HTTP"


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class NoAnswer(Exception):
    """The server has not answered, or has stopped in the middle of its answer. The message says how."""


async def exchange(
    request: h11.Request, target: Target, client: End, server: End, *, passage: Passage, clock: Clock
) -> None:
    """Pass a request on, and the answer back.

    Both at a time: a server may answer before it has read the whole request.

    Raises:
        NoAnswer: when there is none, or only a part of it has come (and been passed on).
        ClientGone: when nobody waits for it.
        Malformed: when the rest of the request is not what was said.
        Spent: when a limit of the passage is reached.
    """
    upload = asyncio.ensure_future(_upload(messages.forwarded(request, target), client, server, passage))
    download = asyncio.ensure_future(_download(client, server, clock))
    try:
        await asyncio.wait({upload, download}, return_when=asyncio.FIRST_COMPLETED)
        await (download if download.done() else upload)
    finally:
        for each in (upload, download):
            each.cancel()
        await asyncio.gather(upload, download, return_exceptions=True)


async def _upload(request: h11.Request, client: End, server: End, passage: Passage) -> None:
    """Pass on the request. Ends only by an error: it goes on to watch whether the client is still there."""
    event: Any = request
    server_reads = True
    while not isinstance(event, h11.ConnectionClosed):
        if isinstance(event, h11.Request | h11.Data | h11.EndOfMessage) and server_reads:
            data = server.http.send(event) or b""
            passage.give(len(data))
            try:
                await server.write(data)
            except OSError:  # it may have answered all the same
                server_reads = False
        if client.http.they_are_waiting_for_100_continue:
            await client.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        try:
            event = await client.event()
        except OSError:
            raise ClientGone from None
        except h11.RemoteProtocolError:
            raise Malformed("the body of the request is not what its head says") from None
        if event is h11.PAUSED:  # it has sent its next request already, so it will read the answer to this one
            await asyncio.get_running_loop().create_future()
    raise ClientGone


async def _download(client: End, server: End, clock: Clock) -> None:
    """Pass on the answer."""
    event: Any = await _answer(server, clock)
    try:
        async with Patience(clock, IDLE_SECONDS) as patience:
            await _pass_on(client, messages.returned(event))
            while isinstance(event := await server.event(), h11.Data):
                await _pass_on(client, event)
                patience.renew()
                await asyncio.sleep(0)  # chunks of a byte each are not to keep everybody else waiting
            await _pass_on(client, h11.EndOfMessage())
    except TimeoutError:
        raise NoAnswer(f"nothing has moved for {IDLE_SECONDS} s") from None
    except (h11.RemoteProtocolError, OSError):
        raise NoAnswer("it has stopped in the middle of its answer") from None


async def _answer(server: End, clock: Clock) -> h11.Response:
    """Return the head of the answer, after those that only come before it."""
    try:
        async with Patience(clock, ANSWER_SECONDS):
            for _ in range(_MOST_INFORMATIONAL + 1):
                event = await server.event()
                if not isinstance(event, h11.InformationalResponse):
                    break
    except TimeoutError:
        raise NoAnswer(f"it has not answered within {ANSWER_SECONDS} s") from None
    except h11.RemoteProtocolError:
        _, ended = server.http.trailing_data
        raise NoAnswer(_HUNG_UP if ended else _NOT_HTTP) from None
    except OSError:
        raise NoAnswer(_HUNG_UP) from None
    if isinstance(event, h11.InformationalResponse):
        raise NoAnswer(_NOT_HTTP)
    if not isinstance(event, h11.Response):
        raise NoAnswer(_HUNG_UP)
    return event


async def _pass_on(client: End, event: h11.Event) -> None:
    try:
        await client.send(event)
    except OSError:
        raise ClientGone from None


async def tunnel(client: End, server: End, passage: Passage, clock: Clock) -> None:
    """Pass bytes to and fro until both sides have ended, or nothing moves any more.

    Raises:
        Spent: when a limit of the passage is reached.
    """
    early, _ = client.http.trailing_data
    with contextlib.suppress(TimeoutError):
        async with Patience(clock, IDLE_SECONDS) as patience:

            async def up() -> None:
                data = early or await client.receive()
                while data:
                    passage.give(len(data))
                    await server.write(data)
                    patience.renew()
                    data = await client.receive()
                server.finish()

            async def down() -> None:
                while data := await server.receive():
                    await client.write(data)
                    patience.renew()
                client.finish()

            await _both(up(), down())


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Wait until both have ended, or one has failed, which ends the other."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.gather(*tasks)
    except OSError:  # one side is gone
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
