"""As many passes of a graph at a time as there are streams, of several runs in turn.

A run is cut into passes. Where two runs are under way, the streams take a pass of each in turn, so a short one does not
wait for the end of a long one; and when the last pass of one run is under way, the other streams work for the next run.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

_Request = TypeVar("_Request")


class Streams(Generic[_Request]):
    """One thread for each stream, which it works with through an inference request of its own."""

    def __init__(self, requests: Sequence[_Request]) -> None:
        self._runs: deque[_Run[_Request]] = deque()
        """Those that have passes which nobody has taken yet; whose turn it is, first."""
        self._changed = threading.Condition()
        self._count, self._sharers = len(requests), 0
        for number, request in enumerate(requests):
            threading.Thread(target=self._work, args=(request,), name=f"stream {number}", daemon=True).start()

    @contextlib.contextmanager
    def sharing(self) -> Iterator[int]:
        """Count a run as under way. Yields how many streams there are for it, beside those that are."""
        with self._changed:
            self._sharers += 1
            share = max(1, self._count // self._sharers)
        try:
            yield share
        finally:
            with self._changed:
                self._sharers -= 1

    def carry_out(self, passes: Iterable[Callable[[_Request], None]]) -> None:
        """Have these passes done, and return when all are; any number of threads may ask at a time.

        Raises what the first that failed has raised; those after it are not begun then.
        """
        run = _Run(deque(passes))
        if not run.passes:
            return
        with self._changed:
            self._runs.append(run)
            self._changed.notify(len(run.passes))
        run.over.wait()
        if run.failure:
            raise run.failure

    def _work(self, request: _Request) -> None:
        while True:
            with self._changed:
                while not self._runs:
                    self._changed.wait()
                run = self._runs.popleft()
                its_next = run.passes.popleft()
                run.under_way += 1
                if run.passes:
                    self._runs.append(run)
            failure = None
            try:
                its_next(request)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the run's owner
                failure = error
            with self._changed:
                run.under_way -= 1
                if failure:
                    run.failure = run.failure or failure
                    run.passes.clear()
                    if run in self._runs:
                        self._runs.remove(run)
                if not (run.passes or run.under_way):
                    run.over.set()
            del run, its_next, failure  # what is over is not to take memory until the next comes


class _Run(Generic[_Request]):
    def __init__(self, passes: deque[Callable[[_Request], None]]) -> None:
        self.passes = passes
        """That nobody has taken yet."""
        self.under_way = 0
        self.failure: BaseException | None = None
        self.over = threading.Event()
