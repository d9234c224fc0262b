"""The batcher: many callers, few runs, and to each caller its own results."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_ai.models.batcher import Batcher, ItemFailed
from homelab_ai.models.hosts.host import Answer, HostDied, HostPlan, RunFailed
from homelab_ai.models.turns import Turns
from homelab_ai.settings import BatchingSettings
from support.clock import Clock
from support.hosts import VECTORS, FakeHost, Vectors, vector_of

pytestmark = pytest.mark.anyio


class Bench:
    """A batcher over a fake host that works only when it is let."""

    def __init__(self, **batching: Any) -> None:
        self.clock = Clock()
        self.host = FakeHost(HostPlan("model", "an.engine", {}, 10))
        self.host.busy = asyncio.Event()
        self.batcher = Batcher(
            self.host, BatchingSettings.model_validate({"window_ms": 0, **batching}), Turns(4, self.clock), self.clock
        )

    def ask(self, *items: str, **how: Any) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(self.batcher.run(VECTORS, how.pop("options", {}), items, **how))

    async def finish_run(self, seconds: float = 0.1) -> None:
        """Let the run under way come to its end."""
        count = len(self.host.runs)
        assert self.host.busy
        self.clock.advance(seconds)
        self.host.busy.set()
        self.host.busy = asyncio.Event()
        await quiet()
        assert len(self.host.runs) <= count + 1

    async def finish(self) -> None:
        """Let all runs come to their end."""
        assert self.host.busy
        self.host.busy.set()
        self.host.busy = None
        await quiet()


async def quiet() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def benches() -> AsyncIterator[Callable[..., Bench]]:
    async with AsyncExitStack() as stack:

        def build(**batching: Any) -> Bench:
            bench = Bench(**batching)
            stack.callback(bench.batcher.close)
            return bench

        yield build


@pytest.fixture
async def bench(benches: Callable[..., Bench]) -> Bench:
    return benches()


def vectors(*items: str) -> list[list[float]]:
    return [vector_of(item) for item in items]


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
    monkeypatch.setattr(bench.batcher, "_compose", lambda: 1 / 0)
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


# --- the window


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


# --- turns


async def test_hosts_on_the_cpu_take_turns_and_others_do_not() -> None:
    turns, at_work, log = Turns(2, Clock()), set[str](), list[set[str]]()

    async def work(name: str, *, on_cpu: bool) -> None:
        async with turns.take(on_cpu=on_cpu):
            at_work.add(name)
            log.append(set(at_work))
            await quiet()
            at_work.remove(name)

    await asyncio.gather(*(work(f"cpu {n}", on_cpu=True) for n in range(3)))
    assert all(len(names) == 1 for names in log)
    log.clear()
    await asyncio.gather(*(work(f"gpu {n}", on_cpu=False) for n in range(5)))
    assert max(map(len, log)) == 2


async def test_a_run_that_hangs_does_not_take_the_other_models_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.models.turns._PATIENCE_SECONDS", 0.01)
    turns = Turns(2, asyncio.get_running_loop())
    async with turns.take(on_cpu=True), asyncio.timeout(1), turns.take(on_cpu=True):
        pass
    async with asyncio.timeout(1), turns.take(on_cpu=True), turns.take(on_cpu=False):
        pass


# --- whatever comes

ITEMS = st.lists(st.sampled_from(["a", "b", "c", "poison", "deadly", "long" * 20, "x" * 300]), min_size=1, max_size=9)
CALLERS = st.lists(
    st.tuples(ITEMS, st.sampled_from(["interactive", "bulk"]), st.booleans(), st.integers(0, 3)), min_size=1, max_size=9
)


@settings(max_examples=int(os.environ.get("HOMELAB_AI_TEST_EXAMPLES", "300")), deadline=None)
@given(CALLERS, st.integers(1, 5), st.integers(1, 400))
def test_every_caller_gets_its_own_results_or_its_own_error(
    callers: list[tuple[list[str], Any, bool, int]], max_items: int, max_tokens: int
) -> None:
    async def check() -> None:
        bench = Bench(max_items=max_items, max_tokens=max_tokens)

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


async def two_models(at_once: int) -> tuple[Bench, Bench]:
    """Two batchers on one CPU."""
    first, second = Bench(), Bench()
    first.batcher._turns = second.batcher._turns = Turns(at_once, first.clock)
    return first, second


async def test_a_question_to_a_model_that_has_just_given_its_turn_away_passes_too() -> None:
    texts, pictures = await two_models(at_once=4)
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
    texts, pictures = await two_models(at_once=1)
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
    async with bench.batcher._turns.take(on_cpu=True):
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
    async with bench.batcher._turns.take(on_cpu=True):
        large, small = bench.ask(BIG), bench.ask("small")
        await quiet()
    await quiet()
    assert bench.host.runs == [["small"]], "a host has one run at a time"
    await bench.finish()
    assert bench.host.runs == [["small"], [BIG]]
    assert await small == vectors("small")
    assert await large == vectors(BIG)


async def test_nothing_passes_where_only_one_may_work_at_once(bench: Bench) -> None:
    bench.batcher._turns = turns = Turns(1, bench.clock)
    async with turns.take(on_cpu=True):
        small = bench.ask("small")
        await quiet()
        assert bench.host.runs == []
    await quiet()
    await bench.finish()
    assert await small == vectors("small")
    assert bench.host.runs == [["small"]]


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


LONG = "x" * 399
"""A tenth of a second of work, at the speed that is expected at first: one more is waited for for 10 ms."""


async def test_who_is_getting_ready_is_waited_for(benches: Callable[..., Bench]) -> None:
    bench = benches(window_ms=5)
    with bench.batcher.expecting():
        first = bench.ask(LONG)
        await quiet()
        bench.clock.advance(0.009)
        await quiet()
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
        asker = bench.ask(LONG)
        await quiet()
        bench.clock.advance(0.011)
        await quiet()
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
