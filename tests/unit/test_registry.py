"""The registry: one host a model, started when it is asked for, replaced when it dies, gone when the service ends."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from homelab_ai.errors import InferenceFailed, ModelLoadFailed, ResourceExhausted, ServiceError
from homelab_ai.models.batcher import ItemFailed
from homelab_ai.models.catalogue import Model
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed, HostPlan, RunFailed
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import VECTORS, FailingRun, FakeHost, FakeHosts, vector_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a clock that stands still, nobody waits for company."""
    return Settings.model_validate({**settings.model_dump(), "batching": {"window_ms": 0}})


@pytest.fixture
def models(settings: Settings, hosts: FakeHosts, clock: Clock) -> LocalModels:
    return LocalModels(settings, {"text_embedding": "an.engine"}, hosts, clock=clock)


@pytest.fixture
def minilm(models: LocalModels) -> Model:
    return models.catalogue.get("minilm")


async def ask(models: LocalModels, model: Model, *texts: str) -> list[Any]:
    """One request."""
    async with models.lease(model) as lease:
        return await lease.run(VECTORS, {}, texts)


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks go on until this holds."""
    while not condition():
        await asyncio.sleep(0)


def fail_with(*errors: Exception | None) -> Callable[[HostPlan], Exception | None]:
    """Make one start after the other end so; those after the last succeed."""
    left = list(errors)
    return lambda plan: left.pop(0) if left else None


async def test_nothing_is_started_before_it_is_asked_for(models: LocalModels, hosts: FakeHosts, minilm: Model) -> None:
    snapshot = models.snapshot(minilm)
    assert (snapshot.state, snapshot.loads, snapshot.load_seconds) == ("available", 0, None)
    assert (snapshot.described, snapshot.failure) == ({}, None)
    await models.close()
    assert hosts.started == []


async def test_a_hundred_first_runs_at_once_start_one_host(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.starting = asyncio.Event()
    runs = [asyncio.create_task(ask(models, minilm, f"text {n}")) for n in range(100)]
    await until(lambda: hosts.asked)
    hosts.starting.set()
    answers = await asyncio.gather(*runs)
    assert len(hosts.started) == 1
    assert sorted(text for run in hosts.started[0].runs for text in run) == sorted(f"text {n}" for n in range(100))
    assert answers == [[vector_of(f"text {n}")] for n in range(100)]
    await ask(models, minilm, "again")
    assert (len(hosts.started), models.snapshot(minilm).loads) == (1, 1)


async def test_a_host_is_told_what_the_settings_say(settings: Settings, hosts: FakeHosts, clock: Clock) -> None:
    resources = settings.resources.model_copy(update={"device": "cuda:1", "request_timeout_seconds": 7.0})
    models = LocalModels(
        settings.model_copy(update={"resources": resources}), {"text_embedding": "an.engine"}, hosts, clock=clock
    )
    await ask(models, models.catalogue.get("minilm"), "a")
    plan = hosts.started[0].plan
    assert (plan.model_id, plan.engine, plan.run_timeout_seconds) == ("minilm", "an.engine", 7.0)
    assert plan.options["device"] == "cuda:1"
    assert plan.options["hf_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert Path(plan.options["models_dir"]).is_absolute()
    orjson.dumps(plan.options)  # it goes through a pipe


async def test_a_caller_that_gives_up_does_not_take_the_load_from_the_others(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.starting = asyncio.Event()
    first, second = (asyncio.create_task(ask(models, minilm, name)) for name in ("first", "second"))
    await until(lambda: hosts.asked)
    first.cancel()
    await until(first.done)
    assert models.snapshot(minilm).state == "loading"
    hosts.starting.set()
    assert await second == [vector_of("second")]
    assert first.cancelled()
    assert [host.runs for host in hosts.started] == [[["second"]]]


async def test_a_load_that_nobody_waits_for_any_more_serves_the_next_request(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.starting = asyncio.Event()
    only = asyncio.create_task(ask(models, minilm, "only"))
    await until(lambda: hosts.asked)
    only.cancel()
    await until(only.done)
    hosts.starting.set()
    await ask(models, minilm, "next")
    assert [host.runs for host in hosts.started] == [[["next"]]]


async def test_a_failed_load_that_nobody_waits_for_any_more_does_no_harm(
    models: LocalModels, hosts: FakeHosts, minilm: Model, clock: Clock
) -> None:
    hosts.starting = asyncio.Event()
    hosts.on_start = fail_with(HostLoadFailed("no"))
    only = asyncio.create_task(ask(models, minilm, "only"))
    await until(lambda: hosts.asked)
    only.cancel()
    hosts.starting.set()
    await until(lambda: models.snapshot(minilm).state == "failed")
    clock.advance(5)
    assert await ask(models, minilm, "next") == [vector_of("next")]


def busy(host: FakeHost) -> None:
    host.busy = asyncio.Event()


async def test_requests_whose_host_dies_are_answered_by_a_fresh_one(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.prepare = busy
    names = ("one", "two", "three")
    runs = [asyncio.create_task(ask(models, minilm, name)) for name in names]
    await until(lambda: hosts.started and hosts.started[0].runs)
    hosts.prepare = lambda host: None
    hosts.started[0].kill()
    assert await asyncio.gather(*runs) == [[vector_of(name)] for name in names]
    assert len(hosts.started) == 2
    assert sorted(text for run in hosts.started[1].runs for text in run) == sorted(names)
    assert (models.snapshot(minilm).state, models.snapshot(minilm).loads) == ("ready", 2)


async def test_a_host_that_died_between_two_requests_is_replaced_unnoticed(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    before = await ask(models, minilm, "text")
    hosts.started[0].kill()
    snapshot = models.snapshot(minilm)
    assert (snapshot.state, snapshot.failure) == ("available", None)
    assert snapshot.described["backend"] == "fake"  # what is known stays known
    assert await ask(models, minilm, "text") == before
    assert len(hosts.started) == 2


async def test_a_run_under_which_two_hosts_die_fails_and_harms_no_other(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    def dies_of_poison(host: FakeHost) -> None:
        def run(texts: list[str]) -> Exception | None:
            if texts != ["poison"]:
                return None
            host.kill()
            return HostDied("its process was ended by SIGSEGV", run_had_started=True)

        host.on_run = run

    hosts.prepare = dies_of_poison
    with pytest.raises(InferenceFailed) as raised:
        await ask(models, minilm, "poison")
    assert "SIGSEGV" in raised.value.message
    assert raised.value.details == {"model_id": "minilm"}
    assert len(hosts.started) == 2
    await ask(models, minilm, "harmless")
    assert len(hosts.started) == 3


def killed_under_another_run(host: FakeHost) -> FailingRun:
    def run(texts: list[str]) -> Exception:
        host.kill()
        return HostDied("its process was ended by SIGSEGV")

    return run


async def test_a_run_that_waited_behind_deadly_ones_is_answered_all_the_same(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    def dies_before_its_turn(host: FakeHost) -> None:
        if len(hosts.started) < 4:
            host.on_run = killed_under_another_run(host)

    hosts.prepare = dies_before_its_turn
    assert await ask(models, minilm, "patient") == [vector_of("patient")]
    assert len(hosts.started) == 5


async def test_a_run_that_never_gets_its_turn_gives_up(models: LocalModels, hosts: FakeHosts, minilm: Model) -> None:
    hosts.prepare = lambda host: setattr(host, "on_run", killed_under_another_run(host))
    with pytest.raises(InferenceFailed, match="SIGSEGV"):
        await ask(models, minilm, "unlucky")
    assert len(hosts.started) == 5


async def test_an_error_of_the_engine_is_not_tried_again(models: LocalModels, hosts: FakeHosts, minilm: Model) -> None:
    hosts.prepare = lambda host: setattr(host, "on_run", lambda texts: RunFailed("RuntimeError", "Traceback"))
    (result,) = await ask(models, minilm, "text")
    assert isinstance(result, ItemFailed)
    assert str(result.failure) == "RuntimeError"
    assert [host.runs for host in hosts.started] == [[["text"]]]
    assert models.snapshot(minilm).state == "ready"


@pytest.mark.parametrize("failure", [HostLoadFailed("it has no weights"), HostDied("it was ended by SIGKILL")])
async def test_a_failed_load_fails_all_who_wait_and_is_told_until_one_succeeds(
    models: LocalModels, hosts: FakeHosts, minilm: Model, clock: Clock, failure: Exception
) -> None:
    tries = 4 if isinstance(failure, HostDied) else 2  # a process that died is given a second try within each load
    hosts.starting, hosts.on_start = asyncio.Event(), fail_with(*[failure] * tries)
    runs = [asyncio.create_task(ask(models, minilm, "text")) for _ in range(10)]
    await until(lambda: hosts.asked)
    hosts.starting.set()
    for outcome in await asyncio.gather(*runs, return_exceptions=True):
        assert isinstance(outcome, ModelLoadFailed)
        assert str(failure) in outcome.message
        assert outcome.details == {"model_id": "minilm"}
    snapshot = models.snapshot(minilm)
    assert (snapshot.state, snapshot.failure, snapshot.loads) == ("failed", str(failure), 0)

    clock.advance(5)
    with pytest.raises(ModelLoadFailed):  # the next request tries again
        await ask(models, minilm, "text")
    clock.advance(10)
    await ask(models, minilm, "text")
    snapshot = models.snapshot(minilm)
    assert (snapshot.state, snapshot.failure, snapshot.loads) == ("ready", None, 1)

    hosts.started[0].kill()
    assert models.snapshot(minilm).state == "available"  # the old failure does not come back


async def test_a_model_that_fails_to_load_is_tried_ever_less_often(
    models: LocalModels, hosts: FakeHosts, minilm: Model, clock: Clock
) -> None:
    tries = 0

    def fail(plan: HostPlan) -> Exception:
        nonlocal tries
        tries += 1
        return HostLoadFailed(f"reason {tries}")

    async def refusal() -> ModelLoadFailed:
        with pytest.raises(ModelLoadFailed) as raised:
            await ask(models, minilm, "text")
        return raised.value

    hosts.on_start = fail
    for number, seconds in enumerate([5, 10, 20, 40, 80, 160, 300, 300], start=1):
        assert (await refusal()).headers["Retry-After"] == str(seconds)
        assert tries == number
        clock.advance(seconds - 0.5)
        refused = await refusal()
        assert (tries, refused.headers["Retry-After"]) == (number, "1")
        assert f"reason {number}" in refused.message
        assert models.snapshot(minilm).state == "failed"
        clock.advance(0.5)

    hosts.on_start = lambda plan: None
    await ask(models, minilm, "text")
    hosts.started[0].kill()
    hosts.on_start = fail
    assert (await refusal()).headers["Retry-After"] == "5"  # a success clears the record


async def test_while_a_failed_model_is_tried_again_it_is_loading(
    models: LocalModels, hosts: FakeHosts, minilm: Model, clock: Clock
) -> None:
    hosts.on_start = fail_with(HostLoadFailed("no"))
    with pytest.raises(ModelLoadFailed):
        await ask(models, minilm, "text")
    clock.advance(5)
    hosts.starting = asyncio.Event()
    again = asyncio.create_task(ask(models, minilm, "text"))
    await until(lambda: models.snapshot(minilm).state == "loading")
    assert models.snapshot(minilm).failure is None
    hosts.starting.set()
    await again


async def test_a_fresh_host_that_cannot_be_loaded_fails_the_run_it_was_for(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.prepare, hosts.on_start = busy, fail_with(None, HostLoadFailed("out of memory"))
    run = asyncio.create_task(ask(models, minilm, "text"))
    await until(lambda: hosts.started and hosts.started[0].runs)
    hosts.started[0].kill()
    with pytest.raises(ModelLoadFailed, match="out of memory"):
        await run


async def test_a_fault_of_our_own_in_a_start_is_not_swallowed_and_not_remembered(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.on_start = fail_with(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await ask(models, minilm, "text")
    assert models.snapshot(minilm).state == "available"
    await ask(models, minilm, "text")


async def test_models_are_loaded_and_fail_apart(models: LocalModels, hosts: FakeHosts, minilm: Model) -> None:
    mpnet = models.catalogue.get("mpnet")
    hosts.on_start = lambda plan: HostLoadFailed("no") if plan.model_id == "mpnet" else None
    outcomes = await asyncio.gather(ask(models, minilm, "a"), ask(models, mpnet, "a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [list, ModelLoadFailed]
    assert [models.snapshot(model).state for model in (minilm, mpnet)] == ["ready", "failed"]


async def test_the_time_of_a_load_is_that_of_the_clock(
    models: LocalModels, hosts: FakeHosts, minilm: Model, clock: Clock
) -> None:
    hosts.prepare = lambda host: clock.advance(2.5)
    await ask(models, minilm, "text")
    assert models.snapshot(minilm).load_seconds == 2.5


async def test_closing_stops_every_host_and_starts_none_again(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    mpnet = models.catalogue.get("mpnet")
    await asyncio.gather(ask(models, minilm, "a"), ask(models, mpnet, "a"))
    await models.close()
    assert [host.stopped for host in hosts.started] == [True, True]
    for model in (minilm, mpnet):
        with pytest.raises(ResourceExhausted, match="shutting down"):
            await ask(models, model, "a")
    await models.close()
    assert len(hosts.started) == 2


async def test_who_is_refused_at_the_end_is_told_when_to_come_back(models: LocalModels, minilm: Model) -> None:
    await models.close()
    with pytest.raises(ResourceExhausted) as raised:
        await ask(models, minilm, "a")
    assert "Retry-After" in raised.value.headers


async def test_closing_ends_a_load_under_way_and_all_who_wait_for_it(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.starting = asyncio.Event()
    runs = [asyncio.create_task(ask(models, minilm, "a")) for _ in range(3)]
    await until(lambda: hosts.asked)
    await models.close()
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError | ServiceError) for outcome in outcomes)
    hosts.starting.set()
    await asyncio.sleep(0)
    assert hosts.started == []


async def test_closing_ends_runs_under_way_without_a_second_try(
    models: LocalModels, hosts: FakeHosts, minilm: Model
) -> None:
    hosts.prepare = busy
    run = asyncio.create_task(ask(models, minilm, "a"))
    await until(lambda: hosts.started and hosts.started[0].runs)
    await models.close()
    with pytest.raises(ResourceExhausted):
        await run
    assert len(hosts.started) == 1
