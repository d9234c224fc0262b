"""Whose turn it is, where several want the same CPU, and what passes those whose turn it is."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_ai.models.hosts.host import HostDied
from homelab_ai.models.turns import Turns
from support.bench import Bench, quiet, vectors
from support.clock import Clock

pytestmark = pytest.mark.anyio


async def test_hosts_on_the_cpu_take_turns() -> None:
    turns, at_work, log = Turns(2, Clock()), set[str](), list[set[str]]()

    async def work(name: str) -> None:
        async with turns.on_cpu():
            at_work.add(name)
            log.append(set(at_work))
            await quiet()
            at_work.remove(name)

    await asyncio.gather(*(work(f"cpu {n}") for n in range(3)))
    assert all(len(names) == 1 for names in log)
    assert not turns.cpu_is_taken


async def test_whoever_has_the_cpu_can_tell_that_others_want_it() -> None:
    turns, seen = Turns(2, Clock()), list[bool]()
    async with turns.on_cpu():
        seen.append(turns.cpu_is_wanted)
        other = asyncio.create_task(turns.on_cpu().__aenter__())
        await quiet()
        seen.append(turns.cpu_is_wanted)
        other.cancel()
        await quiet()
        seen.append(turns.cpu_is_wanted)
    assert seen == [False, True, False]


async def test_a_run_that_hangs_does_not_take_the_other_models_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.models.turns._PATIENCE_SECONDS", 0.01)
    turns = Turns(2, asyncio.get_running_loop())
    async with turns.on_cpu(), asyncio.timeout(1), turns.on_cpu():
        pass


# --- questions before lists


@pytest.mark.parametrize("batching", [{}, {"max_items": 3}, {"max_items": 1}, {"max_tokens": 30}])
async def test_a_question_waits_for_one_run_however_long_lists_have_waited(
    benches: Callable[..., Bench], batching: dict[str, int]
) -> None:
    bench = benches(**batching)
    lists = [bench.ask(*(f"{letter}{number:99}" for number in range(1000))) for letter in "abc"]
    await quiet()
    bench.clock.advance(1000)
    for number in range(4):
        questions = [bench.ask(f"question {number} {which}") for which in range(min(2, batching.get("max_items", 2)))]
        await bench.finish_run()
        assert len(bench.host.runs[-1]) == len(questions)
        await bench.finish_run()
        assert bench.host.runs[-1][0].startswith("a"), "then there is something of a list again"
        await asyncio.gather(*questions)
    await bench.finish()
    await asyncio.gather(*lists)


async def test_however_many_questions_there_are_a_list_comes_on(benches: Callable[..., Bench]) -> None:
    bench = benches(max_items=3)
    asked = [bench.ask(*("x" * 999 for _ in range(4)))]
    for _ in range(12):
        await quiet()
        bench.clock.advance(10)
        asked += [bench.ask(f"{number}") for number in range(50)]
        await bench.finish_run()
    assert asked[0].done()
    await bench.finish()
    await asyncio.gather(*asked)


# --- questions beside another model


async def test_a_question_to_a_model_that_has_just_given_its_turn_away_passes_too() -> None:
    texts, pictures = Bench(turns := Turns(4, Clock())), Bench(turns)
    asked = [texts.ask(*("x" * 999 for _ in range(10)))]
    await quiet()
    asked.append(pictures.ask("y" * 3999))
    await quiet()
    await texts.finish_run()  # of its list; the picture comes first now, and the rest of the list waits
    assert pictures.host.runs == [["y" * 3999]]
    asked.append(texts.ask("question"))
    await quiet()
    assert texts.host.runs[-1] == ["question"]
    for bench in (texts, pictures):
        await bench.finish()
    await asyncio.gather(*asked)
    for bench in (texts, pictures):
        bench.batcher.close()


async def test_questions_without_end_keep_no_other_model_from_its_turn() -> None:
    texts, pictures = Bench(turns := Turns(1, Clock())), Bench(turns)
    first = pictures.ask("y" * 3999)
    await quiet()
    large, asked = texts.ask(BIG), list[asyncio.Task[Any]]()
    for number in range(20):  # there is always one more when a run ends
        asked.append(texts.ask(f"{number}"))
        await quiet()
        for bench in (texts, pictures):
            if bench.host._at_work:
                await bench.finish_run()
    assert large.done()
    for bench in (texts, pictures):
        await bench.finish()
    await asyncio.gather(first, large, *asked)
    for bench in (texts, pictures):
        bench.batcher.close()


async def test_what_can_wait_does_not_pass(beside: Bench) -> None:
    asker = beside.ask("photo", lane="bulk")
    await quiet()
    assert beside.host.runs == []
    asker.cancel()


@pytest.fixture
async def beside() -> AsyncIterator[Bench]:
    """A batcher while another model has the CPU."""
    bench = Bench()
    async with bench.turns.on_cpu():
        yield bench
    bench.batcher.close()
    await quiet()


BIG = "x" * 3999
"""A second of work."""


async def test_what_takes_a_moment_passes_the_model_whose_turn_it_is(beside: Bench) -> None:
    large, small = beside.ask(BIG), beside.ask("small")
    await quiet()
    assert beside.host.runs == [["small"]]
    later = beside.ask("later")
    await quiet()
    await beside.finish()
    assert beside.host.runs == [["small"], ["later"]]
    assert await small == vectors("small")
    assert await later == vectors("later")
    assert not large.done()
    large.cancel()


async def test_what_takes_a_moment_passes_though_it_comes_later(beside: Bench) -> None:
    large = beside.ask(BIG)
    await quiet()
    assert beside.host.runs == []
    small = [beside.ask(f"small {number}") for number in range(3)]
    await quiet()
    await beside.finish()
    assert beside.host.runs == [["small 0", "small 1", "small 2"]]
    assert await asyncio.gather(*small) == [vectors(f"small {number}") for number in range(3)]
    large.cancel()


async def test_of_many_small_ones_so_many_pass_at_a_time_as_take_a_moment(beside: Bench) -> None:
    askers = [beside.ask(str(number) * 49) for number in range(9)]  # of which four take a moment
    await quiet()
    await beside.finish()
    assert [len(run) for run in beside.host.runs] == [4, 4, 1]
    await asyncio.gather(*askers)


async def test_a_host_whose_turn_comes_ends_the_small_run_first(bench: Bench) -> None:
    async with bench.turns.on_cpu():
        large, small = bench.ask(BIG), bench.ask("small")
        await quiet()
    await quiet()
    assert bench.host.runs == [["small"]], "a host has one run at a time"
    await bench.finish()
    assert bench.host.runs == [["small"], [BIG]]
    assert await small == vectors("small")
    assert await large == vectors(BIG)


async def test_nothing_passes_where_only_one_may_work_at_once() -> None:
    bench = Bench(Turns(1, Clock()))
    async with bench.turns.on_cpu(), bench.turns.places:
        small = bench.ask("small")
        await quiet()
        assert bench.host.runs == []
    await quiet()
    await bench.finish()
    assert await small == vectors("small")
    assert bench.host.runs == [["small"]]
    bench.batcher.close()


async def test_a_host_that_dies_under_a_small_run_is_found_dead(beside: Bench) -> None:
    large, small = beside.ask(BIG), beside.ask("small")
    await quiet()
    beside.host.kill()
    await quiet()
    with pytest.raises(HostDied):
        await small
    with pytest.raises(HostDied):
        await beside.ask("next")
    beside.batcher.close()
    with pytest.raises(HostDied):
        await large


# --- whatever comes

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "give up", "finish a run", "time"]),
        st.integers(0, 1),
        st.sampled_from(["a", "question", "x" * 300, BIG]),
        st.sampled_from(["interactive", "bulk"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=int(os.environ.get("HOMELAB_AI_TEST_EXAMPLES", "200")), deadline=None)
@given(STEPS, st.sampled_from([1, 2, 4]), st.sampled_from([0, 5]), st.sampled_from([1, 2, 3]))
def test_two_models_on_one_cpu_answer_everybody_and_do_no_more_at_a_time_than_they_may(
    steps: list[tuple[str, int, str, Any, int]], at_once: int, window_ms: int, runs_at_once: int
) -> None:
    async def check() -> None:
        clock = Clock()
        turns = Turns(at_once, clock)
        benches = [Bench(turns, window_ms=window_ms, runs_at_once=runs_at_once) for _ in range(2)]
        asked: list[tuple[str, asyncio.Task[list[Any]]]] = []
        for what, which, item, lane, pause in steps:
            bench = benches[which]
            match what:
                case "ask":
                    asked.append((item, bench.ask(item, lane=lane)))
                case "give up" if asked:
                    asked[len(asked) // 2][1].cancel()
                case "finish a run" if bench.host._at_work:
                    await bench.finish_run()
                case "time":
                    clock.advance(0.7)  # three times of it are more than a turn is waited for
            for _ in range(pause):
                await asyncio.sleep(0)
            assert all(bench.host._at_work <= runs_at_once for bench in benches)
            assert sum(bench.host._at_work for bench in benches) <= at_once
        for bench in benches:
            assert bench.host.busy
            bench.host.busy.set()
            bench.host.busy = None
        for _ in range(50):
            for each in (clock, *(bench.clock for bench in benches)):
                each.advance(1)
            await quiet()
        for item, task in asked:
            assert task.done()
            assert task.cancelled() or task.result() == vectors(item)
        assert not turns.cpu_is_taken
        assert turns.places._value == at_once
        for bench in benches:
            bench.batcher.close()
        await quiet()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    anyio.run(check)
