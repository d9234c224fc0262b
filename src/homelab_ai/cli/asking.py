"""Much to ask of the running service: a few requests at a time, their answers in order, and with patience."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol, TypeVar

import httpx2
import orjson

from homelab_ai.cli.client import Client, ServiceUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE = 4
"""As many as the service works on at a time, unless it is told otherwise: further ones would only take places."""
_WAITING = 8
"""Requests that are at work, or done and waiting for an earlier one. It bounds what is held in memory."""

_BUSY_SECONDS = 600
"""How long a request is tried again while the service says that it has no time, or no room, yet."""
_GONE_SECONDS = 60
"""The same while nobody answers who has answered before: a restart takes no longer."""
_TRY_AGAIN_SECONDS = 1
_NOT_NOW = {"RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}

_PRIORITY = {"Priority": "u=5"}
"""Whoever works through much lets others go first."""


class Answer:
    """What the service has answered."""

    def __init__(self, response: httpx2.Response) -> None:
        """Raise `ServiceUnavailableError` for what is no JSON."""
        self.headers: Mapping[str, str] = response.headers
        try:
            self.body: dict[str, Any] = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise ServiceUnavailableError(f"What answers at {response.url} is another service") from error


class Post(Protocol):
    """Asks, and waits where that helps."""

    def __call__(self, path: str, **content: Any) -> Answer:
        """Return the answer to a POST of what httpx2 takes. Raises `ServiceUnavailableError`."""
        ...


class Asking:
    """Asks one service many things."""

    def __init__(self, url: str, tell: Callable[[str], None]) -> None:
        """`tell` is told, by any thread, what is waited for. Raises `ServiceUnavailableError` for a wrong address."""
        self._clients = [Client(url) for _ in range(_AT_ONCE)]
        self._tell = tell
        self._has_answered = False
        self._over = Event()

    def each(self, items: Iterable[Item], work: Callable[[Post, Item], Result]) -> Iterator[tuple[Item, Result]]:
        """Yield each item and what the work made of it, in their order; raise what the work raises, in its place.

        The threads are daemons: whoever presses Ctrl-C is not to wait for answers, and the service gives up what nobody
        waits for when the connections end with the program.
        """
        jobs: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()

        def worker(client: Client) -> None:
            def post(path: str, **content: Any) -> Answer:
                return self._post(client, path, **content)

            with closing(client):
                while (job := jobs.get()) and not self._over.is_set():
                    future, item = job
                    try:
                        future.set_result(work(post, item))
                    except BaseException as error:  # noqa: BLE001 - it is raised where the result is wanted
                        future.set_exception(error)

        for client in self._clients:
            Thread(target=worker, args=(client,), daemon=True).start()
        under_way: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                future: Future[Result] = Future()
                under_way.append((item, future))
                jobs.put((future, item))
                if len(under_way) == _WAITING:
                    first, done = under_way.popleft()
                    yield first, done.result()
            while under_way:
                first, done = under_way.popleft()
                yield first, done.result()
        finally:
            self._over.set()
            for _ in self._clients:
                jobs.put(None)

    def _post(self, client: Client, path: str, **content: Any) -> Answer:
        waited = 0
        while True:
            try:
                answer = Answer(client.send("POST", path, headers=_PRIORITY, **content))
            except ServiceUnavailableError as error:
                if error.code in _NOT_NOW and error.retry_after_seconds is not None:
                    pause, most = max(error.retry_after_seconds, 1), _BUSY_SECONDS
                elif error.status is None and self._has_answered:
                    pause, most = _TRY_AGAIN_SECONDS, _GONE_SECONDS
                else:
                    raise
                if waited + pause > most:
                    raise
                self._tell(f"trying again in {pause} s: {error}")
                if self._is_over_in(pause):
                    raise
                waited += pause
            else:
                self._has_answered = True
                return answer

    def _is_over_in(self, seconds: float) -> bool:
        """Wait so long, unless nobody wants the answer any more; tell whether that is so."""
        return self._over.wait(seconds)
