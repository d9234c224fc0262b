"""The batcher: many callers, few runs, and to each caller its own results."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_ai.models.batcher import ItemFailed
from homelab_ai.models.hosts.host import Answer, HostDied, RunFailed
from support.bench import Bench, quiet, vectors
from support.hosts import Vectors, vector_of

pytestmark = pytest.mark.anyio


async def test_what_waits_while_the_host_is_busy_goes_in_one_run(bench: Bench) -> None:
    first = bench.ask("first")
    await quiet()
    others = [bench.ask(f"other {n}") for n in range(10)]
    await quiet()
    assert bench.host.runs == [["first"]]
    await bench.finish()
    assert bench.host.runs == [["first"], [f"other {n}" for n in range(10)]]
    assert await first == vectors("first")
    assert await asyncio.gather(*others) == [vectors(f"other {n}") for n in range(10)]


async def test_equal_items_are_computed_once(bench: Bench) -> None:
    blocker = bench.ask("x")
    await quiet()
    askers = [bench.ask("a", "b", "a"), bench.ask("b"), bench.ask("c", "a")]
    await quiet()
    await bench.finish()
    assert bench.host.runs[1] == ["b", "c", "a"]  # who asks for least comes first
    assert await asyncio.gather(*askers) == [vectors("a", "b", "a"), vectors("b"), vectors("c", "a")]
    await blocker


@pytest.mark.parametrize("batching", [{"max_items": 10}, {"max_tokens": 20}])
async def test_a_run_is_bounded_by_count_and_by_tokens(benches: Callable[..., Bench], batching: dict[str, int]) -> None:
    bench = benches(**batching)
    items = [chr(ord("a") + n) for n in range(25)]  # of two tokens each
    asker = bench.ask(*items)
    await quiet()
    await bench.finish()
    assert [len(run) for run in bench.host.runs] == [10, 10, 5]
    assert await asker == vectors(*items)


async def test_one_item_over_all_bounds_is_done_all_the_same(benches: Callable[..., Bench]) -> None:
    bench = benches(max_tokens=5)
    asker = bench.ask("a", "x" * 100, "b")
    await quiet()
    await bench.finish()
    assert bench.host.runs == [["a"], ["x" * 100], ["b"]]
    assert await asker == vectors("a", "x" * 100, "b")


async def test_a_short_question_is_in_the_next_run_after_a_long_list_has_begun(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=4)
    items = [f"long {n:99}" for n in range(12)]
    long = bench.ask(*items)
    await quiet()
    short = bench.ask("short")
    await bench.finish_run()
    assert bench.host.runs[1] == ["short"]
    await bench.finish_run()
    assert short.done()
    assert bench.host.runs[2] == items[4:8]
    await bench.finish()
    assert await long == vectors(*items)


async def test_runs_become_as_long_as_the_model_is_fast(bench: Bench) -> None:
    bench.host.on_run = lambda texts: bench.clock.advance(len(texts) / 100)  # a hundred items a second
    asker = bench.ask(*(f"{n:9}" for n in range(1000)))  # of ten tokens each
    await quiet()
    assert bench.host.busy
    bench.host.busy.set()
    bench.host.busy = None
    await asyncio.wait([asker])
    sizes = [len(run) for run in bench.host.runs]
    assert sizes[0] > 100
    assert sizes[10:-1]
    assert all(38 <= size <= 48 for size in sizes[10:-1]), sizes  # 0.4 s


async def test_a_few_short_runs_do_not_make_a_model_seem_slow(bench: Bench) -> None:
    bench.host.on_run = lambda texts: bench.clock.advance(0.01 + len(texts) / 1000)
    assert bench.host.busy
    bench.host.busy.set()
    bench.host.busy = None
    for n in range(20):
        await bench.ask(f"{n}")
    await bench.ask(*(f"{n:9}" for n in range(1000)))
    assert len(bench.host.runs[20]) == 160


# --- what fails


def failing(poison: str) -> Callable[[list[str]], Exception | None]:
    return lambda texts: RunFailed("ValueError", "Traceback") if poison in texts else None


async def test_a_failed_run_is_halved_until_only_the_poisonous_item_fails(bench: Bench) -> None:
    bench.host.on_run = failing("poison")
    blocker = bench.ask("x")
    await quiet()
    askers = [bench.ask(f"{n}") for n in range(7)]
    poisoned = bench.ask("a", "poison", "b")
    await quiet()
    await bench.finish()
    assert await asyncio.gather(*askers) == [vectors(f"{n}") for n in range(7)]
    a, failed, b = await poisoned
    assert [a, b] == vectors("a", "b")
    assert isinstance(failed, ItemFailed)
    assert str(failed.failure) == "ValueError"
    assert len(bench.host.runs) <= 2 + 2 * 4
    await blocker


async def test_an_answer_that_cannot_be_read_fails_its_callers_and_no_other(bench: Bench) -> None:
    class Unreadable(Vectors):
        def unpack(self, answer: Answer, count: int) -> list[list[float]]:
            raise ZeroDivisionError

    broken = asyncio.create_task(bench.batcher.run(Unreadable(), {}, ["a"]))
    await quiet()
    await bench.finish()
    with pytest.raises(ZeroDivisionError):
        await broken
    assert await bench.ask("a") == vectors("a")


async def test_a_fault_of_our_own_ends_the_host_rather_than_leave_anybody_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.batcher._queue, "compose", lambda *_, **__: 1 / 0)
    waiting = bench.ask("a")
    await quiet()
    assert not bench.host.alive
    bench.batcher.close()
    with pytest.raises(HostDied):
        await waiting


async def test_when_the_host_dies_all_are_told_and_who_was_in_the_run(bench: Bench) -> None:
    bench.host.on_run = lambda texts: HostDied("gone", run_had_started=True)
    working = bench.ask("a")
    await quiet()
    waiting = bench.ask("b")
    await quiet()
    await bench.finish()
    bench.host.kill()
    bench.batcher.close()
    with pytest.raises(HostDied) as raised:
        await working
    assert raised.value.run_had_started
    with pytest.raises(HostDied) as raised:
        await waiting
    assert not raised.value.run_had_started
    with pytest.raises(HostDied):
        await bench.ask("c")


async def test_who_was_in_a_deadly_run_shares_none_any_more(bench: Bench) -> None:
    blocker = bench.ask("x")
    await quiet()
    askers = [bench.ask("a"), bench.ask("suspect", alone=True), bench.ask("b"), bench.ask("another", alone=True)]
    await quiet()
    await bench.finish()
    assert bench.host.runs[1:] == [["a", "b"], ["suspect"], ["another"]]
    assert await asyncio.gather(*askers) == [vectors(name) for name in ("a", "suspect", "b", "another")]
    await blocker


async def test_callers_that_have_gone_are_dropped_before_work_starts(bench: Bench) -> None:
    blocker = bench.ask("x")
    await quiet()
    gone, stays = bench.ask("gone"), bench.ask("stays")
    await quiet()
    gone.cancel()
    await quiet()
    await bench.finish()
    assert bench.host.runs == [["x"], ["stays"]]
    assert await stays == vectors("stays")
    await blocker


async def test_a_caller_that_goes_in_the_middle_of_a_run_costs_the_others_nothing(bench: Bench) -> None:
    gone, stays = bench.ask("gone"), bench.ask("stays")
    await quiet()
    gone.cancel()
    await quiet()
    await bench.finish()
    assert await stays == vectors("stays")
    assert await bench.ask("next") == vectors("next")


async def test_other_options_are_another_run(bench: Bench) -> None:
    blocker = bench.ask("x")
    await quiet()
    askers = [bench.ask("a", options={"p": 1}), bench.ask("a", options={"p": 2}), bench.ask("b", options={"p": 1})]
    await quiet()
    await bench.finish()
    assert bench.host.runs[1:] == [["a", "b"], ["a"]]
    assert await asyncio.gather(*askers) == [vectors("a"), vectors("a"), vectors("b")]
    await blocker


# --- two lanes


async def test_what_can_wait_does_not_delay_what_cannot(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=2)
    bulk = [bench.ask(f"photo {n}", lane="bulk") for n in range(6)]
    await quiet()
    voice = bench.ask("lights on")
    await bench.finish_run()
    assert bench.host.runs[1] == ["lights on", "photo 2"]
    await bench.finish()
    await asyncio.gather(voice, *bulk)


async def test_what_can_wait_gets_its_turn_however_many_come_after_it(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=1)
    blocker, bulk, hurry = bench.ask("x"), bench.ask("photo", lane="bulk"), list[asyncio.Task[Any]]()
    await quiet()
    while not bulk.done():
        hurry += [bench.ask(f"{len(hurry)}"), bench.ask(f"{len(hurry) + 1}")]  # more than can be done
        await quiet()
        await bench.finish_run(0.5)
    assert 5 <= len(bench.host.runs) <= 14
    await bench.finish()
    await asyncio.gather(blocker, *hurry)


async def test_a_list_that_has_begun_is_finished_before_the_next_of_its_length(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=3)
    lists = [[f"{letter}{n}" for n in range(6)] for letter in "abc"]
    tasks = [bench.ask(*items) for items in lists]
    await quiet()
    await bench.finish()
    assert [text for run in bench.host.runs for text in run] == [item for items in lists for item in items]
    await asyncio.gather(*tasks)


async def test_a_short_list_is_done_before_a_long_one_that_came_a_little_earlier(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=10)
    long = bench.ask(*(f"{n:99}" for n in range(1000)))  # some 25 s of work
    await quiet()
    bench.clock.advance(5)
    short = bench.ask(*(f"short {n}" for n in range(20)))
    for _ in range(3):
        await bench.finish_run()
    assert short.done()
    long.cancel()


# --- whatever comes

ITEMS = st.lists(st.sampled_from(["a", "b", "c", "poison", "deadly", "long" * 20, "x" * 300]), min_size=1, max_size=9)
CALLERS = st.lists(
    st.tuples(ITEMS, st.sampled_from(["interactive", "bulk"]), st.booleans(), st.integers(0, 3)), min_size=1, max_size=9
)


@settings(max_examples=int(os.environ.get("HOMELAB_AI_TEST_EXAMPLES", "300")), deadline=None)
@given(CALLERS, st.integers(1, 5), st.integers(1, 400), st.integers(1, 4))
def test_every_caller_gets_its_own_results_or_its_own_error(
    callers: list[tuple[list[str], Any, bool, int]], max_items: int, max_tokens: int, runs_at_once: int
) -> None:
    async def check() -> None:
        bench = Bench(max_items=max_items, max_tokens=max_tokens, runs_at_once=runs_at_once)

        def on_run(texts: list[str]) -> Exception | None:
            if "deadly" in texts:
                bench.host.kill()
                return HostDied("killed", run_had_started=True)
            return failing("poison")(texts)

        bench.host.on_run = on_run
        tasks: list[asyncio.Task[list[Any]]] = []
        for items, lane, gives_up, pause in callers:
            tasks.append(bench.ask(*items, lane=lane))
            for _ in range(pause):
                await asyncio.sleep(0)
            if gives_up:
                tasks[-1].cancel()
        assert bench.host.busy
        bench.host.busy.set()
        async with asyncio.timeout(30):  # only the end of the host may keep anybody waiting
            while bench.host.alive and not all(task.done() for task in tasks):
                await asyncio.sleep(0)
        bench.batcher.close()
        await asyncio.wait(tasks)
        for task, (items, _, gives_up, _) in zip(tasks, callers, strict=True):
            assert task.done()
            if task.cancelled():
                assert gives_up
            elif error := task.exception():
                assert isinstance(error, HostDied)
                assert not bench.host.alive
            else:
                assert_own_results(items, task.result())
        assert all(len(run) <= max_items for run in bench.host.runs)

    anyio.run(check)


def assert_own_results(items: Sequence[str], results: Sequence[Any]) -> None:
    for item, result in zip(items, results, strict=True):
        assert item != "deadly"
        if item == "poison":
            assert isinstance(result, ItemFailed)
        else:
            assert result == vector_of(item)
