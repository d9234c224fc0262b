"""`Host` with real processes: whoever waits is answered, and no process outlives its owner."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import orjson
import psutil
import pytest

from homelab_ai.models.hosts.host import Host, HostDied, HostLoadFailed, HostPlan, RunFailed
from support.server import assert_goes_first_when_memory_ends, wait_for

pytestmark = pytest.mark.anyio

PROMPTLY = 10.0
"""Seconds after which a machine under load would still have answered: longer than this is a hang."""


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(children())
    yield
    wait_for(lambda: set(children()) <= before)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = await Host.start(plan())
    yield host
    await host.stop()


def plan(
    hf_model: str = "obedient", *, engine: str = "support.engines", timeout: float = 60, **options: Any
) -> HostPlan:
    return HostPlan("model", engine, {"hf_model": hf_model, **options}, timeout)


def children() -> list[psutil.Process]:
    """All processes below this one, the dead that nobody has buried included."""
    return psutil.Process().children(recursive=True)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def appears(path: Path) -> None:
    await holds(path.exists)


async def holds(condition: Any) -> None:
    with anyio.fail_after(PROMPTLY):
        while not condition():
            await asyncio.sleep(0.005)


def busy(host: Host, folder: Path) -> "asyncio.Task[Any]":
    """Start a run that lasts until it is killed, or `release` exists."""
    options = {"do": "wait", "started": str(folder / "started"), "until": str(folder / "release"), "label": "busy"}
    return asyncio.create_task(host.run(options, b"busy"))


async def test_starts_and_answers(host: Host) -> None:
    answer = await host.run({}, b"\x00\xffraw")

    assert host.alive
    assert host.described == {"backend": "obedient", "pid": host.pid}
    assert answer.header == {"pid": host.pid}
    assert answer.body == b"\x00\xffraw"


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
async def test_bodies_of_any_size_cross_unharmed(host: Host, size: int) -> None:
    body = os.urandom(size)

    assert (await host.run({}, body)).body == body


async def test_runs_are_answered_in_order_each_with_its_own_answer(host: Host) -> None:
    finished: list[int] = []

    async def run(number: int) -> None:
        answer = await host.run({"label": number}, str(number).encode())
        assert answer.body == str(number).encode()
        finished.append(number)

    await asyncio.gather(*(run(number) for number in range(50)))

    assert finished == list(range(50))
    assert (await host.run({"do": "labels"}, b"")).header["labels"] == list(range(50))


async def test_a_host_takes_as_many_runs_at_a_time_as_its_engine_says(tmp_path: Path) -> None:
    host = await Host.start(plan(runs_at_once=2))
    first = busy(host, tmp_path)
    await appears(tmp_path / "started")
    bodies = [await host.run({}, bytes([number]) * 1_000_000) for number in range(20)]
    assert [answer.body[:1] for answer in bodies] == [bytes([number]) for number in range(20)]
    assert not first.done()
    second = asyncio.create_task(
        host.run({"do": "wait", "started": str(tmp_path / "too"), "until": str(tmp_path / "release")}, b"second")
    )
    await appears(tmp_path / "too")
    third = asyncio.create_task(host.run({"do": "labels", "label": "third"}, b""))
    await asyncio.sleep(0.05)
    assert not third.done(), "both places are taken"
    (tmp_path / "release").touch()
    assert (await first).body == b"busy"
    assert (await second).body == b"second"
    assert "third" not in (await third).header["labels"]
    await host.stop()


async def test_answers_of_runs_at_a_time_do_not_get_into_each_other() -> None:
    host = await Host.start(plan(runs_at_once=4))

    async def ask(number: int) -> None:
        body = bytes([number]) * (number * 10_000 + 1)
        assert (await host.run({}, body)).body == body

    await asyncio.gather(*(ask(number) for number in range(200)))
    await host.stop()


async def test_of_several_runs_at_a_time_all_are_told_that_the_host_died_under_them(tmp_path: Path) -> None:
    host = await Host.start(plan(runs_at_once=2))
    first = busy(host, tmp_path)
    await appears(tmp_path / "started")
    second = asyncio.create_task(host.run({"do": "compute", "marker": str(tmp_path / "two")}, b""))
    await appears(tmp_path / "two")
    waiting = asyncio.create_task(host.run({}, b""))
    await asyncio.sleep(0)
    os.kill(host.pid, signal.SIGKILL)
    for run, had_started in ((first, True), (second, True), (waiting, False)):
        with pytest.raises(HostDied) as death:
            await run
        assert death.value.run_had_started is had_started


async def test_a_panic_in_any_thread_ends_the_host_at_once() -> None:
    host = await Host.start(plan(runs_at_once=3))
    runs = [asyncio.create_task(host.run({"do": "panic beside the main thread"}, b"")) for _ in range(3)]
    with anyio.fail_after(PROMPTLY):
        for run in runs:
            with pytest.raises(HostDied, match="status 1") as death:
                await run
            assert death.value.run_had_started
            assert not death.value.hung
    await host.ended()


async def test_a_run_that_hangs_beside_others_is_ended_with_its_host(tmp_path: Path) -> None:
    host = await Host.start(plan(runs_at_once=2, timeout=0.5))
    hangs = busy(host, tmp_path)
    await appears(tmp_path / "started")
    async with asyncio.timeout(PROMPTLY):
        while not hangs.done():
            with contextlib.suppress(HostDied):
                await host.run({"do": "sleep", "seconds": 0.01}, b"")
    with pytest.raises(HostDied) as death:
        await hangs
    assert death.value.hung
    await host.ended()


async def test_a_waiting_run_whose_caller_has_gone_never_reaches_the_engine(host: Host, tmp_path: Path) -> None:
    first = busy(host, tmp_path)
    await appears(tmp_path / "started")
    dropped = [asyncio.create_task(host.run({"label": f"dropped {number}"}, b"")) for number in range(3)]
    last = asyncio.create_task(host.run({"label": "last"}, b"last"))
    await asyncio.sleep(0)
    for run in dropped:
        run.cancel()
    (tmp_path / "release").touch()

    assert (await last).body == b"last"
    assert (await first).body == b"busy"
    assert (await host.run({"do": "labels"}, b"")).header["labels"] == ["busy", "last"]


async def test_the_answer_to_a_run_whose_caller_has_gone_is_given_to_nobody(host: Host, tmp_path: Path) -> None:
    first = busy(host, tmp_path)
    await appears(tmp_path / "started")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(host.run({}, b"second"))
    (tmp_path / "release").touch()

    assert (await second).body == b"second"
    assert host.alive


async def test_an_engine_error_fails_its_own_run_only_and_does_not_tell_what_was_sent(
    host: Host, log: pytest.LogCaptureFixture
) -> None:
    runs = [host.run({}, b"before"), host.run({"do": "raise"}, b"my diary"), host.run({}, b"after")]
    before, failure, after = await asyncio.gather(*runs, return_exceptions=True)

    assert isinstance(failure, RunFailed)
    assert str(failure) == "RuntimeError"
    assert "engines.py" in failure.traceback
    assert "my diary" not in failure.traceback + log.text
    assert getattr(before, "body", None) == b"before"
    assert getattr(after, "body", None) == b"after"
    assert host.alive


async def test_a_model_that_is_refused_says_why() -> None:
    with pytest.raises(HostLoadFailed, match=r"^it does not want to$"):
        await Host.start(plan("refuses"))


async def test_an_error_in_loading_is_told_without_paths_and_logged_with_its_traceback(
    log: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(HostLoadFailed) as failure:
        await Host.start(plan("raises"))

    assert str(failure.value) == "ValueError: cannot read (path): no such thing"
    assert "Traceback" in log.text
    assert "engines.py" in log.text


async def test_an_engine_that_does_not_exist_is_a_failed_load() -> None:
    with pytest.raises(HostLoadFailed, match="ModuleNotFoundError"):
        await Host.start(plan(engine="support.nothing_of_the_kind"))


async def test_a_crash_in_loading_is_told_by_its_signal_and_its_last_words_are_logged(
    log: pytest.LogCaptureFixture,
) -> None:
    with anyio.fail_after(PROMPTLY), pytest.raises(HostDied, match="SIGSEGV"):
        await Host.start(plan("dies"))

    assert "these are my last words" in log.text


@pytest.mark.parametrize("step", range(12))
async def test_a_host_killed_while_it_starts_is_a_death_like_any_other(step: int) -> None:
    """At whatever moment of its start: in the first ones it has not yet been told what to load."""
    start = asyncio.create_task(Host.start(plan("slow")))
    with anyio.fail_after(PROMPTLY):
        while not children():
            await asyncio.sleep(0)
        for _ in range(step):
            await asyncio.sleep(0)
        for child in children():
            child.kill()
            wait_for(lambda child=child: is_gone(child.pid))  # type: ignore[misc]
        with pytest.raises(HostDied, match="SIGKILL"):
            await start


@pytest.mark.parametrize("spawn", [None, "spawn program", "spawn"], ids=["alone", "program", "fork"])
async def test_a_killed_host_answers_everybody_who_waits(host: Host, tmp_path: Path, spawn: str | None) -> None:
    """Also where something that it started holds its output, and even its channel, open."""
    child = (await host.run({"do": spawn}, b"")).header.get("child")
    running = busy(host, tmp_path)
    waiting = [asyncio.create_task(host.run({}, b"")) for _ in range(3)]
    await appears(tmp_path / "started")

    os.kill(host.pid, signal.SIGKILL)
    with anyio.fail_after(PROMPTLY):
        deaths = await asyncio.gather(running, *waiting, return_exceptions=True)

    assert [type(death) for death in deaths] == [HostDied] * 4
    assert not host.alive
    await holds(lambda: child is None or is_gone(child))
    with pytest.raises(HostDied):
        await host.run({}, b"")


@pytest.mark.parametrize(
    ("do", "cause"), [("die", "SIGKILL"), ("exit", "status 3")], ids=["kills itself", "exits in a run"]
)
async def test_a_host_that_ends_in_a_run_says_how(host: Host, do: str, cause: str) -> None:
    with anyio.fail_after(PROMPTLY), pytest.raises(HostDied, match=cause):
        await host.run({"do": do}, b"")


async def test_a_signal_without_a_name_is_a_death_like_any_other(host: Host, tmp_path: Path) -> None:
    running = busy(host, tmp_path)
    await appears(tmp_path / "started")

    os.kill(host.pid, signal.SIGRTMIN + 7)

    with anyio.fail_after(PROMPTLY), pytest.raises(HostDied):
        await running


async def test_an_idle_host_that_is_killed_is_known_to_be_dead(host: Host) -> None:
    os.kill(host.pid, signal.SIGKILL)

    await holds(lambda: not host.alive)


async def test_a_hung_run_is_ended_with_its_host(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    host = await Host.start(plan(timeout=0.3))
    running = busy(host, tmp_path)
    waiting = asyncio.create_task(host.run({}, b""))

    with anyio.fail_after(PROMPTLY):
        deaths = await asyncio.gather(running, waiting, return_exceptions=True)

    assert [type(death) for death in deaths] == [HostDied] * 2
    assert is_gone(host.pid)
    assert "has not answered for 0.3 s" in log.text
    await host.stop()


async def test_a_stopped_process_is_hung_too(tmp_path: Path) -> None:
    host = await Host.start(plan(timeout=0.3))
    os.kill(host.pid, signal.SIGSTOP)

    with anyio.fail_after(PROMPTLY), pytest.raises(HostDied):
        await host.run({}, b"x" * 5_000_000)

    await host.stop()
    assert is_gone(host.pid)


async def test_stop_ends_the_process_and_what_it_started(tmp_path: Path) -> None:
    host = await Host.start(plan())
    grandchildren = [(await host.run({"do": do}, b"")).header["child"] for do in ("spawn", "spawn program")]
    running = busy(host, tmp_path)
    waiting = asyncio.create_task(host.run({}, b""))
    await appears(tmp_path / "started")

    with anyio.fail_after(PROMPTLY):
        await asyncio.gather(host.stop(), host.stop())
        deaths = await asyncio.gather(running, waiting, return_exceptions=True)

    assert [type(death) for death in deaths] == [HostDied] * 2
    assert not host.alive
    await holds(lambda: all(is_gone(pid) for pid in (host.pid, *grandchildren)))
    with pytest.raises(HostDied):
        await host.run({}, b"")
    await host.stop()


async def test_stop_ends_a_process_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab_ai.models.hosts.host._STOP_SECONDS", 0.3)
    host = await Host.start(plan())
    os.kill(host.pid, signal.SIGSTOP)

    with anyio.fail_after(PROMPTLY):
        await host.stop()

    assert is_gone(host.pid)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 10], ids=lambda steps: f"step{steps}")
async def test_a_cancelled_start_leaves_no_process(after: int) -> None:
    start = asyncio.create_task(Host.start(plan("slow")))
    for _ in range(after):
        await asyncio.sleep(0)
    start.cancel()

    with anyio.fail_after(PROMPTLY), pytest.raises(asyncio.CancelledError):
        await start

    await holds(lambda: not children())


@pytest.mark.parametrize("seconds", [0.005, 0.02, 0.1])
async def test_a_start_cancelled_while_the_process_comes_up_leaves_none(seconds: float) -> None:
    with anyio.fail_after(PROMPTLY), pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await Host.start(plan("slow"))

    await holds(lambda: not children())


async def test_a_start_cancelled_while_the_model_loads_leaves_no_process(tmp_path: Path) -> None:
    start = asyncio.create_task(Host.start(plan("slow", marker=str(tmp_path / "loading"))))
    await appears(tmp_path / "loading")
    start.cancel()

    with anyio.fail_after(PROMPTLY), pytest.raises(asyncio.CancelledError):
        await start

    assert not children()


async def test_a_host_may_print_whatever_it_likes(host: Host) -> None:
    with anyio.fail_after(PROMPTLY):
        await host.run({"do": "print", "characters": 1_000_000}, b"")
        assert (await host.run({"do": "print", "characters": 300_000}, b"still here")).body == b"still here"


async def test_a_host_may_print_whatever_it_likes_while_it_loads() -> None:
    with anyio.fail_after(PROMPTLY):
        host = await Host.start(plan("talks"))
        await host.stop()


async def test_what_a_run_needed_is_given_back_when_no_other_follows(host: Host) -> None:
    def megabytes() -> float:
        return float(psutil.Process(host.pid).memory_info().rss / 1e6)

    before = megabytes()
    await host.run({"do": "hoard", "megabytes": 100}, b"")
    assert megabytes() > before + 90
    await holds(lambda: megabytes() < before + 10)
    assert (await host.run({}, b"more")).body == b"more", "it works on"


async def test_a_host_ignores_ctrl_c(host: Host) -> None:
    os.kill(host.pid, signal.SIGINT)

    assert (await host.run({}, b"still here")).body == b"still here"


async def test_a_host_is_not_told_the_service_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_AI__SECURITY__API_KEYS", "[{name: x, key_hash: top-secret}]")
    monkeypatch.setenv("homelab_ai__data_dir", "top-secret")
    monkeypatch.setenv("HOMELAB_AI_CONFIG", "top-secret")
    monkeypatch.setenv("HF_HOME", "/kept")
    host = await Host.start(plan())
    environment: Mapping[str, str] = orjson.loads((await host.run({"do": "environment"}, b"")).body)
    await host.stop()

    assert not [name for name in environment if name.upper().startswith("HOMELAB_AI")]
    assert "top-secret" not in "".join(environment.values())
    assert environment["HF_HOME"] == "/kept"


async def test_the_kernel_is_to_take_a_host_before_the_service(host: Host) -> None:
    assert_goes_first_when_memory_ends(host.pid)


async def test_many_hosts_leave_no_file_descriptor_and_no_process() -> None:
    async def cycle(hf_model: str) -> None:
        with contextlib.suppress(HostDied, HostLoadFailed):
            host = await Host.start(plan(hf_model))
            await host.run({}, b"x")
            await host.stop()

    await cycle("obedient")  # whatever the event loop opens once
    before = open_files()
    for _ in range(4):
        await asyncio.gather(*(cycle(what) for what in ("obedient", "obedient", "obedient", "refuses", "dies")))

    assert not children()
    await holds(lambda: len(open_files()) <= len(before))


def open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(f"{entry.name} -> {entry.readlink()}")
    return found


OWNER = """
import asyncio, json, sys
from homelab_ai.models.hosts.host import Host, HostPlan

async def own():
    options, run = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    host = await Host.start(HostPlan("model", "support.engines", options, 60))
    if run is not None:
        await host.run(run, b"")
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(own())
"""


@pytest.mark.parametrize("moment", ["starting", "loading", "idle", "running", "computing"])
def test_no_host_outlives_the_service_when_that_is_killed(tmp_path: Path, moment: str) -> None:
    marker = tmp_path / "marker"
    options = {"hf_model": "slow" if moment == "loading" else "obedient"}
    run = None
    if moment == "loading":
        options["marker"] = str(marker)
    if moment == "running":
        run = {"do": "sleep", "seconds": 60, "marker": str(marker)}
    if moment == "computing":  # in one long call that lets no other thread of the host run
        run = {"do": "compute", "marker": str(marker)}
    arguments = [sys.executable, "-c", OWNER, orjson.dumps(options).decode(), orjson.dumps(run).decode()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as owner:
        try:
            wait_for(lambda: psutil.Process(owner.pid).children())
            (host,) = psutil.Process(owner.pid).children()
            if moment == "idle":
                assert owner.stdout
                assert owner.stdout.readline() == "ready\n"
            elif moment != "starting":
                wait_for(marker.exists)
        finally:
            owner.kill()

    try:
        wait_for(lambda: is_gone(host.pid), PROMPTLY)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            host.kill()


async def test_a_load_that_hangs_is_ended_and_one_that_takes_long_is_not(tmp_path: Path) -> None:
    start = asyncio.create_task(
        Host.start(dataclasses.replace(plan("slow", marker=str(tmp_path / "loading")), load_silence_seconds=1.5))
    )
    await appears(tmp_path / "loading")
    await asyncio.sleep(2)  # longer than it may be silent
    assert not start.done()
    (process,) = children()
    process.suspend()

    with anyio.fail_after(PROMPTLY), pytest.raises(HostLoadFailed, match="has not answered"):
        await start

    assert not children()


@pytest.mark.parametrize("fails", [False, True], ids=["loaded", "failed"])
async def test_the_last_that_was_reported_of_a_load_is_told_before_its_end(fails: bool) -> None:  # noqa: FBT001
    told: list[Mapping[str, Any]] = []
    with pytest.raises(HostLoadFailed) if fails else contextlib.nullcontext():
        host = await Host.start(plan("reports", fails=fails), told.append)
        await host.stop()

    assert told[-1] == {"step": 3}


async def test_what_is_reported_of_a_load_is_told_while_it_lasts_and_once_each(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    start = asyncio.create_task(Host.start(plan("reports and waits", until=str(tmp_path / "go")), told.append))
    for step in range(2):
        await holds(lambda step=step: told[-1:] == [{"step": step}])
        assert not start.done()
        (tmp_path / f"go{step}").touch()
    host = await start
    await host.stop()

    assert told == [{"step": 0}, {"step": 1}]


async def test_a_caller_that_has_gone_leaves_nothing_behind(host: Host, tmp_path: Path) -> None:
    running = busy(host, tmp_path)
    waiting = asyncio.create_task(host.run({}, b"a large body"))
    await appears(tmp_path / "started")
    waiting.cancel()
    await asyncio.wait([waiting])

    assert not host._waiting
    running.cancel()
