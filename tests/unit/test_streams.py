"""Passes of several runs, in turns on a few streams."""

import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from homelab_ai.models.engines.streams import Streams
from support.server import wait_for

Pass = Callable[[str], None]

SOON = 10.0


def noted(log: list[str], name: str) -> Pass:
    return lambda request: log.append(f"{name} by {request}")


def begun(streams: Streams[str], passes: list[Pass]) -> threading.Thread:
    thread = threading.Thread(target=streams.carry_out, args=(passes,))
    thread.start()
    return thread


@pytest.fixture
def open_gates() -> Iterator[list[threading.Event]]:
    """Events that are set at the end in any case: no thread is left behind that waits."""
    gates: list[threading.Event] = []
    yield gates
    for gate in gates:
        gate.set()


def test_all_passes_are_done_when_the_run_is_over() -> None:
    log: list[str] = []
    streams = Streams(["a request"])
    streams.carry_out(noted(log, str(number)) for number in range(5))
    streams.carry_out([])
    assert log == [f"{number} by a request" for number in range(5)]


def test_as_many_passes_are_under_way_as_there_are_streams() -> None:
    all_at_once = threading.Barrier(3)
    requests: list[str] = []

    def meet(request: str) -> None:
        all_at_once.wait(SOON)
        requests.append(request)

    Streams(["a", "b", "c"]).carry_out([meet] * 3)
    assert sorted(requests) == ["a", "b", "c"]


def test_a_short_run_does_not_wait_for_the_end_of_a_long_one(open_gates: list[threading.Event]) -> None:
    log: list[str] = []
    gate, entered = threading.Event(), threading.Event()
    open_gates.append(gate)
    streams = Streams(["x"])

    def hold(_: str) -> None:
        entered.set()
        gate.wait(SOON)

    long = begun(streams, [hold, *(noted(log, f"long {number}") for number in range(5))])
    assert entered.wait(SOON)
    short = begun(streams, [noted(log, "short")])
    while len(streams._runs) < 2:  # it has come
        assert short.is_alive()
    gate.set()
    for thread in (long, short):
        thread.join(SOON)
    assert log.index("short by x") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_pass_that_fails_ends_its_own_run_only(open_gates: list[threading.Event], error: type[BaseException]) -> None:
    log: list[str] = []
    gate, entered = threading.Event(), threading.Event()
    open_gates.append(gate)
    streams = Streams(["x"])

    def fail(_: str) -> None:
        entered.set()
        gate.wait(SOON)
        raise error

    failures: list[BaseException] = []

    def run() -> None:
        try:
            streams.carry_out([fail, noted(log, "never"), noted(log, "never")])
        except error as failure:
            failures.append(failure)

    failing = threading.Thread(target=run)
    failing.start()
    assert entered.wait(SOON)
    other = begun(streams, [noted(log, "other")])
    gate.set()
    for thread in (failing, other):
        thread.join(SOON)
    assert len(failures) == 1
    assert "never by x" not in log
    streams.carry_out([noted(log, "later")])
    assert {"other by x", "later by x"} <= set(log)


def test_runs_under_way_share_the_streams() -> None:
    streams = Streams(["a", "b", "c", "d"])
    with streams.sharing() as first, streams.sharing() as second, streams.sharing() as third:
        assert (first, second, third) == (4, 2, 1)
    with streams.sharing() as alone:
        assert alone == 4


def test_nothing_of_a_run_is_kept_when_it_is_over() -> None:
    class Step:
        def __call__(self, request: str) -> None:
            pass

    streams, step = Streams(["x"]), Step()
    kept = weakref.ref(step)
    streams.carry_out([step])
    del step
    wait_for(lambda: kept() is None)
