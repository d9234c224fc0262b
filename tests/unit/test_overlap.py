"""The batcher over a host that takes several runs at a time: it never waits for callers to come back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from homelab_ai.models.hosts.host import HostDied
from homelab_ai.models.turns import Turns
from support.bench import Bench, quiet, vectors
from support.clock import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(runs_at_once=3)
    yield bench
    await bench.finish()
    bench.batcher.close()
    await quiet()


def texts(letter: str, count: int) -> list[str]:
    """Each of 250 tokens, which are a sixteenth of a second's work: more than a moment."""
    return [f"{letter}{number:248}" for number in range(count)]


async def test_the_next_run_is_there_before_the_last_has_ended(bench: Bench) -> None:
    first = bench.ask(*texts("a", 1))
    await quiet()
    second = bench.ask(*texts("b", 1))
    await quiet()
    assert len(bench.host.runs) == 2
    await bench.end(1)
    assert second.done()
    assert not first.done()
    await bench.end(0)
    assert first.done()


async def test_many_that_come_together_are_two_runs_so_that_one_is_there_when_the_other_has_ended(bench: Bench) -> None:
    askers = [bench.ask(text) for text in texts("a", 6)]
    await quiet()
    assert [len(run) for run in bench.host.runs] == [3, 3]
    await bench.finish()
    assert [await asker for asker in askers] == [vectors(text) for text in texts("a", 6)]


async def test_few_that_come_together_are_one_run(bench: Bench) -> None:
    for number in range(8):
        bench.ask(f"{number}")
    await quiet()
    assert [len(run) for run in bench.host.runs] == [8]


async def test_callers_of_a_run_that_has_ended_are_waited_for_while_another_is_under_way(bench: Bench) -> None:
    for text in texts("a", 6):
        bench.ask(text)
    await quiet()
    await bench.end(0, seconds=0.375)  # as fast as it was thought to be
    for text in texts("b", 2):
        bench.ask(text)
    await quiet()
    assert len(bench.host.runs) == 2, "one of the three has not come back"
    bench.ask(*texts("c", 1))
    await quiet()
    assert [len(run) for run in bench.host.runs] == [3, 3, 3]


async def test_nobody_waits_for_those_who_do_not_come_back_once_the_host_is_idle(bench: Bench) -> None:
    for text in texts("a", 6):
        bench.ask(text)
    await quiet()
    await bench.end(0)
    bench.ask("another")
    await bench.end(1)
    assert bench.host.runs[2:] == [["another"]]


async def test_a_list_is_in_two_runs_at_a_time_and_comes_back_in_its_order(bench: Bench) -> None:
    items = texts("a", 30)
    asker = bench.ask(*items)
    await quiet()
    assert [len(run) for run in bench.host.runs] == [3, 3]  # of a fifth of a second each
    await bench.end(1)
    await bench.end(0)
    await bench.finish()
    assert await asker == vectors(*items)


async def test_a_question_begins_beside_lists(bench: Bench) -> None:
    lists = bench.ask(*texts("a", 100))
    await quiet()
    assert len(bench.host.runs) == 2
    question = bench.ask("question")
    await quiet()
    assert bench.host.runs[2] == ["question"]
    await bench.end(2)
    assert await question == vectors("question")
    assert not lists.done()
    waits = bench.ask("can wait", lane="bulk")
    await quiet()
    assert len(bench.host.runs) == 3
    for task in (lists, waits):
        task.cancel()


async def test_questions_without_end_have_one_place_beside_lists(bench: Bench) -> None:
    lists = bench.ask(*texts("a", 100))
    await quiet()
    bench.ask("question")
    await quiet()
    bench.ask("another")
    await bench.end(0)
    assert len(bench.host.runs) == 3, "it does not take the place that a part of the list had"
    await bench.end(2)
    assert bench.host.runs[3] == ["another"]
    bench.ask("one more")
    await bench.end(1)
    assert bench.host.runs[4][-1].startswith("a"), "and the list goes on beside it"
    lists.cancel()


async def test_nothing_begins_while_another_model_waits_for_the_cpu() -> None:
    turns = Turns(8, Clock())
    here, there = Bench(turns, runs_at_once=3), Bench(turns)
    mine = here.ask(*texts("a", 100))
    await quiet()
    picture = there.ask("y" * 3999)
    await quiet()
    assert there.host.runs == []
    await here.end(0)
    assert len(here.host.runs) == 2
    await here.end(1)
    assert len(here.host.runs) == 2
    assert len(there.host.runs) == 1, "and it has the CPU as soon as those under way have ended"
    for bench in (here, there):
        await bench.finish()
    await asyncio.gather(mine, picture)
    for bench in (here, there):
        bench.batcher.close()


async def test_nor_where_it_would_have_to_wait_for_a_place() -> None:
    turns = Turns(1, Clock())
    here, there = Bench(turns, runs_at_once=3), Bench(turns)
    mine = here.ask(*texts("a", 100))
    await quiet()
    picture = there.ask("y" * 3999)
    await quiet()
    await here.end(0)
    assert len(here.host.runs) == 1
    assert len(there.host.runs) == 1
    for bench in (here, there):
        await bench.finish()
    await asyncio.gather(mine, picture)
    for bench in (here, there):
        bench.batcher.close()


async def test_a_question_waits_for_one_run_where_there_is_one_place_for_all() -> None:
    bench = Bench(Turns(1, Clock()), runs_at_once=3)
    lists = bench.ask(*texts("a", 100))
    await quiet()
    bench.clock.advance(100)
    bench.ask("question")
    await bench.end(0)
    assert bench.host.runs[1] == ["question"]
    lists.cancel()
    await bench.finish()
    bench.batcher.close()


async def test_who_was_in_a_deadly_run_has_the_host_for_itself(bench: Bench) -> None:
    others = bench.ask(*texts("a", 20))
    await quiet()
    assert len(bench.host.runs) == 2
    suspect = bench.ask("suspect", alone=True)
    await quiet()
    assert len(bench.host.runs) == 2
    await bench.end(0)
    assert len(bench.host.runs) == 2, "those under way end first"
    await bench.end(1)
    assert bench.host.runs[2] == ["suspect"]
    bench.ask("question")
    await quiet()
    assert len(bench.host.runs) == 3, "and nobody comes beside it"
    await bench.end(2)
    assert suspect.done()
    await bench.finish()
    assert await others == vectors(*texts("a", 20))


async def test_all_who_were_in_a_run_when_the_host_died_are_told_so(bench: Bench) -> None:
    bench.host.on_run = lambda texts: HostDied("gone", run_had_started=True)
    tasks = [bench.ask(*texts("a", 4)), bench.ask(*texts("b", 4))]
    await quiet()
    assert len(bench.host.runs) == 2
    await bench.finish()
    for task in tasks:
        with pytest.raises(HostDied) as death:
            await task
        assert death.value.run_had_started


async def test_a_model_does_not_seem_slow_because_two_runs_shared_it(bench: Bench) -> None:
    speed = bench.batcher._queue.speed
    for _ in range(5):
        asker = bench.ask(*texts("a", 6))  # two runs of a fifth of a second
        await quiet()
        runs = len(bench.host.runs)
        await bench.end(runs - 2, seconds=0.3)
        await bench.end(runs - 1, seconds=0.1)
        await asker
    assert bench.batcher._queue.speed == pytest.approx(speed, rel=0.05)
