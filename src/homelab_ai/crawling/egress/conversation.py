"""One client's connection to the guard, from its first request to its last."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11

from homelab_ai.crawling.egress import messages
from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.crawling.egress.ends import End
from homelab_ai.crawling.egress.exchange import ClientGone, NoAnswer, exchange, tunnel
from homelab_ai.crawling.egress.finding import Dial, Stream, connect
from homelab_ai.crawling.egress.messages import Malformed
from homelab_ai.crawling.egress.passage import Passage, Spent
from homelab_ai.crawling.egress.patience import Patience
from homelab_ai.crawling.egress.policy import Machine
from homelab_ai.crawling.egress.targets import Refused, Target
from homelab_ai.models.clock import Clock

log = logging.getLogger(__name__)

HEAD_SECONDS = 15
"""How long a client may take to ask for the first time, and to ask again."""
RESOLVE_SECONDS = 5
CONNECT_SECONDS = 10


_CREDENTIALS = re.compile(r"^([a-z][a-z0-9+.-]*:)?(//)?[^/?#]*@", re.IGNORECASE)


@dataclass(frozen=True)
class Surroundings:
    """What a conversation needs of the guard."""

    clock: Clock
    dial: Dial
    machine: Callable[[], Machine]
    passage_of: Callable[[tuple[str, str] | None], Passage | None]
    """Returns the passage that has this user name and password."""
    most_connections: int
    """Of one passage."""


class Conversation:
    """Answers one request after another."""

    def __init__(self, stream: Stream, surroundings: Surroundings) -> None:
        self._guard = surroundings
        self._client = End(stream, h11.SERVER)
        self._method = b""
        self.passage: Passage | None = None
        """Whose credentials the client has shown first; it may show no others."""

    async def run(self) -> None:
        """Go on until the client or the passage has ended, and close the connection."""
        task = asyncio.current_task()
        try:
            await self._answer_all()
        except Spent:
            if self.passage:
                self.passage.exhaust()
        except (ClientGone, NoAnswer, OSError, h11.RemoteProtocolError):
            pass  # there is nobody to tell, or half an answer that says so by its end
        except Exception:
            log.exception("a connection through the guard has failed")
        finally:
            if self.passage and task:
                self.passage.connections.discard(task)
            if self.passage and self.passage.ended:
                self._client.writer.transport.abort()
            else:
                await self._client.close(self._guard.clock)

    async def _answer_all(self) -> None:
        http = self._client.http
        while True:
            try:
                async with Patience(self._guard.clock, HEAD_SECONDS):
                    request = await self._client.event()
                if not isinstance(request, h11.Request):
                    return
                self._method = request.method
                messages.check(request)
                await self._answer(request)
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, "this is not a valid HTTP/1.1 request")
                return
            except Malformed as error:
                await self._refuse(error.status, str(error))
                return
            # The body of a refused request, if it is here already, or if there is none and only its end is to be read.
            while http.their_state is h11.SEND_BODY and http.next_event() is not h11.NEED_DATA:
                pass
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _answer(self, request: h11.Request) -> None:
        passage = self._guard.passage_of(messages.credentials(request))
        if passage is None or (self.passage and self.passage is not passage):
            challenge = ("Proxy-Authenticate", 'Basic realm="homelab-ai"')
            await self._refuse(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, "this proxy is not for everybody", challenge)
        elif reason := self._enter(passage):
            await self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        elif request.method not in messages.METHODS:
            allow = ("Allow", b", ".join(sorted(messages.METHODS)).decode())
            await self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this method is not passed on", allow)
        else:
            await self._pass_on(request, passage)

    def _enter(self, passage: Passage) -> str | None:
        """Become one of the passage's connections. Return why that cannot be, None if it can."""
        if passage.spent:
            return "the limit of bytes or of time is reached"
        task = asyncio.current_task()
        if task and task not in passage.connections:
            if len(passage.connections) >= self._guard.most_connections:
                return "there are too many connections"
            self.passage = passage
            passage.connections.add(task)
        return None

    async def _pass_on(self, request: h11.Request, passage: Passage) -> None:
        asked = _asked(request)
        try:
            target, stream = await self._reach(request, passage)
        except Refused as refusal:
            passage.note_blocked(asked, str(refusal))
            await self._refuse(HTTPStatus.FORBIDDEN, str(refusal), mark=messages.BLOCKED)
            return
        except NoAnswer as failure:
            await self._fail(passage, asked, str(failure))
            return
        server = End(stream, h11.CLIENT)
        server.take = passage.take
        whole = False
        try:
            if request.method == b"CONNECT":
                await self._client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
                await tunnel(self._client, server, passage, self._guard.clock)
            else:
                await exchange(request, target, self._client, server, passage=passage, clock=self._guard.clock)
            whole = True
        except NoAnswer as failure:
            await self._fail(passage, asked, str(failure))
        finally:
            if whole:
                await server.close(self._guard.clock)
            else:
                server.writer.transport.abort()

    async def _reach(self, request: h11.Request, passage: Passage) -> tuple[Target, Stream]:
        """Decide about the request and connect to where it may go.

        Raises:
            Refused: when it may not go there.
            NoAnswer: when there is no connection.
        """
        guard = self._guard
        if any(name == b"upgrade" for name, _ in request.headers):
            raise Refused("no other protocol than HTTP is passed on")
        if request.method == b"CONNECT":
            await self._client.event()  # the end of a request without a body
            target = Target.of_authority(request.target)
        else:
            target = Target.of_url(request.target)
        machine = guard.machine()
        _decide(passage, target, (), machine)  # a name whose port is not allowed is not even looked up
        addresses: Sequence[Address] = (target.address,) if target.address else await self._look_up(passage, target)
        _decide(passage, target, addresses, machine)
        try:
            async with Patience(guard.clock, CONNECT_SECONDS):
                return target, await connect(addresses, target.port, guard.dial)
        except TimeoutError:
            raise NoAnswer(f"it has taken no connection within {CONNECT_SECONDS} s") from None
        except ConnectionRefusedError:
            raise NoAnswer("it has refused the connection") from None
        except OSError:
            raise NoAnswer("it cannot be reached") from None

    async def _look_up(self, passage: Passage, target: Target) -> Sequence[Address]:
        try:
            async with Patience(self._guard.clock, RESOLVE_SECONDS):
                addresses = await passage.addresses_of(target.host)
        except TimeoutError:
            raise NoAnswer(f"its name has not been found within {RESOLVE_SECONDS} s") from None
        except OSError:
            raise NoAnswer("its name has not been found") from None
        if not addresses:
            raise NoAnswer("its name has no address")
        return addresses

    async def _fail(self, passage: Passage, asked: str, reason: str) -> None:
        passage.note_failure(asked, reason)
        await self._refuse(HTTPStatus.BAD_GATEWAY, reason)

    async def _refuse(self, status: int, reason: str, *headers: tuple[str, str], mark: str = messages.FAILED) -> None:
        """Answer with words of the guard's own, unless an answer is under way already."""
        http = self._client.http
        if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        response, data = messages.own(status, mark, reason, *headers)
        await self._client.send(response, *([] if self._method == b"HEAD" else [data]), h11.EndOfMessage())


def _decide(passage: Passage, target: Target, addresses: Sequence[Address], machine: Machine) -> None:
    if reason := passage.policy.objection(target, addresses, machine):
        raise Refused(reason)


def _asked(request: h11.Request) -> str:
    """What the client has asked for, as it is remembered: without credentials, which it should not have sent."""
    return _CREDENTIALS.sub(r"\1\2", request.target.decode("latin-1"))
