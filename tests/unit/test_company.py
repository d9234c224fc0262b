"""Whom the batcher waits for before a run, and how long: those who come back, and those who are getting ready."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.bench import Bench, quiet, vectors

pytestmark = pytest.mark.anyio


async def test_after_a_shared_run_its_callers_are_waited_for(benches: Callable[..., Bench]) -> None:
    bench = benches(window_ms=5)
    first = [bench.ask(f"{n}") for n in range(3)]
    await quiet()
    await bench.finish_run()
    await asyncio.gather(*first)
    again = [bench.ask("a")]
    await quiet()
    again.append(bench.ask("b"))
    await quiet()
    assert len(bench.host.runs) == 1
    again.append(bench.ask("c"))
    await quiet()
    assert bench.host.runs[1] == ["a", "b", "c"]  # they are all back: no need to wait any longer
    await bench.finish_run()
    late = bench.ask("d")
    await quiet()
    assert len(bench.host.runs) == 2
    bench.clock.advance(0.005)
    await quiet()
    assert bench.host.runs[2] == ["d"]  # the others do not come
    await bench.finish_run()
    alone = bench.ask("e")
    await quiet()
    assert bench.host.runs[3] == ["e"]  # who was alone is not made to wait
    await bench.finish()
    await asyncio.gather(late, alone, *again)


# --- who is getting ready

LONG = "x" * 399
"""A tenth of a second of work, at the speed that is expected at first: one more is waited for for 10 ms."""


async def asked_and_left(bench: Bench, *, for_seconds: float) -> asyncio.Task[list[Any]]:
    """Ask for LONG and let so much time go by."""
    asker = bench.ask(LONG)
    await quiet()
    bench.clock.advance(for_seconds)
    await quiet()
    return asker


async def test_who_is_getting_ready_is_waited_for(benches: Callable[..., Bench]) -> None:
    bench = benches(window_ms=5)
    with bench.batcher.expecting():
        first = await asked_and_left(bench, for_seconds=0.009)
        assert bench.host.runs == []
    second = bench.ask(other := "y" * 399)
    await quiet()
    assert bench.host.runs == [[LONG, other]]
    await bench.finish()
    assert await first == vectors(LONG)
    assert await second == vectors(other)


async def test_who_is_long_getting_ready_is_waited_for_a_little_only(benches: Callable[..., Bench]) -> None:
    bench = benches(window_ms=5)
    with bench.batcher.expecting():
        asker = await asked_and_left(bench, for_seconds=0.011)
        assert bench.host.runs == [[LONG]]
        await bench.finish()
    assert await asker == vectors(LONG)


async def test_who_gives_up_getting_ready_holds_nobody_up(benches: Callable[..., Bench]) -> None:
    bench = benches(window_ms=5)
    with bench.batcher.expecting(), bench.batcher.expecting():
        asker = bench.ask(LONG)
        await quiet()
    await quiet()
    assert bench.host.runs == [[LONG]]
    await bench.finish()
    await asker


@pytest.mark.parametrize("bound", [{"max_tokens": 300}, {"max_items": 1}])
async def test_nobody_is_waited_for_who_would_not_be_in_the_run(
    benches: Callable[..., Bench], bound: dict[str, int]
) -> None:
    bench = benches(window_ms=5, **bound)
    with bench.batcher.expecting():
        asker = bench.ask(LONG)
        await quiet()
        assert bench.host.runs == [[LONG]]
        await bench.finish()
    await asker


async def test_without_a_window_nobody_is_waited_for(bench: Bench) -> None:
    with bench.batcher.expecting():
        asker = bench.ask(LONG)
        await quiet()
        assert bench.host.runs == [[LONG]]
        await bench.finish()
    await asker
