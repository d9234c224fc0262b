"""What many callers ask of one model, made into few runs of its host.

While a run is under way, what arrives waits; when it is over, all that waits goes into the next one. Nothing is held
back for what might come, with two exceptions. After a run that several callers shared, there is a moment for them to
ask again together: they have their answers now. And those who are known to come, because their items are being made
ready, are waited for a small part of the time that the run will take.

    callers ──▶ by urgency ──▶ a run: as many items as fit by count, tokens and time ──▶ host ──▶ each its own results

A run is bounded by the time that it will take, by what the model was found to do in a second. So a long list is done
in parts, and a short question that comes meanwhile is in the next one. Who goes first is decided by one figure: the
seconds of work that a caller still asks for, less the seconds that it has waited. Short questions come before long
lists, what has begun before what has not, and nobody waits for ever behind those who come later. What takes a moment
only is done before every run of longer work, and where another model has the CPU, it does not wait for its turn.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from homelab_ai.models.clock import Clock
from homelab_ai.models.hosts.host import Answer, Host, HostDied, RunFailed
from homelab_ai.models.observer import Nobody, Observer
from homelab_ai.models.timing import Timing
from homelab_ai.models.turns import Turns
from homelab_ai.settings import BatchingSettings

log = logging.getLogger(__name__)

Lane = Literal["interactive", "bulk"]

_WEIGHT_PER_SECOND = 4000.0
"""What a model is taken to do until it was seen at work: tokens of a small one on a small CPU."""
_BULK_WAITS_SECONDS = 2.0
"""What is in the bulk lane is treated as if it had come so much later."""
_PART_WAITED = 0.1
"""Of the time that a run takes, for those who are about to be ready: there is more to win by one run fewer."""
_MOMENT_SECONDS = 0.05
"""Work of no more than this is a moment. It passes lists that have waited, and the model whose turn it is: a question
is not to wait for the end of an index, or of a picture."""
_NEWEST_PART = 0.3
"""How much the newest run counts in the speed that is expected of the next."""


class Format(Protocol):
    """How items of one kind travel to the engine, and its results back. Two callers share a run if it is the same."""

    run_seconds: float
    """How long a run is to take at most: what a short question may have to wait for behind a long list."""

    def pack(self, items: Sequence[Any]) -> bytes:
        """Return the body of a run over these items."""
        ...

    def unpack(self, answer: Answer, count: int) -> Sequence[Any]:
        """Return one result for each item, in their order."""
        ...

    def weight(self, item: Any) -> int:
        """Return about how many tokens of work an item is, at least 1."""
        ...


@dataclass(frozen=True)
class ItemFailed:
    """What stands in the place of a result when the engine failed on that very item."""

    failure: RunFailed


@dataclass(eq=False)
class _Job:
    """One caller's items."""

    format: Format
    options: dict[str, Any]
    items: Sequence[Hashable]
    lane: Lane
    alone: bool
    """It shares no run: it was in one under which a host died."""
    came: float
    done: asyncio.Future[list[Any]]
    weight: int
    """Of the items that are left."""
    timing: Timing
    waits_since: float | None
    """None while it is in a run."""
    begun: bool = False
    results: list[Any] = field(default_factory=list)
    """Of as many items as have been done so far."""

    @property
    def left(self) -> Sequence[Hashable]:
        return self.items[len(self.results) :]

    def enter_run(self, now: float) -> None:
        if self.waits_since is not None:
            self.timing.add("queue", now - self.waits_since)
        self.begun, self.waits_since = True, None

    def leave_run(self, now: float, spent: Timing) -> None:
        self.timing.add_all(spent)
        self.waits_since = now

    def urgency(self, speed: float) -> float:
        """Its place in the order, the least first: seconds of work less seconds waited, but for the time of day."""
        return self.weight / speed + self.came + (_BULK_WAITS_SECONDS if self.lane == "bulk" else 0)

    def may_share_with(self, other: "_Job") -> bool:
        return not (self.alone or other.alone) and self.format is other.format and self.options == other.options


_Run = list[tuple[_Job, Sequence[Hashable]]]
"""Some jobs, and the items of each that are its part of the run."""


class Batcher:
    """Gives one host its runs. Every method belongs to the event loop's thread."""

    def __init__(
        self, host: Host, settings: BatchingSettings, turns: Turns, clock: Clock, observer: Observer | None = None
    ) -> None:
        self._host = host
        self._observer = observer or Nobody()
        self._settings = settings
        self._turns = turns
        self._clock = clock
        self._on_cpu = host.described.get("device", "cpu") == "cpu"
        self._jobs: list[_Job] = []
        self._expected = 0
        """How many callers are getting their items ready."""
        self._arrival = asyncio.Event()
        self._speed = _WEIGHT_PER_SECOND
        self._passing: asyncio.Future[None] | None = None
        """The last run that did not wait for its turn."""
        self._last_callers = 0
        self._last_end = clock.time()
        self._worker = asyncio.create_task(self._work())

    @property
    def backlog_seconds(self) -> float:
        """How long what waits now will take, as far as is known."""
        return sum(job.weight for job in self._jobs) / self._speed

    @property
    def queued(self) -> int:
        """How many callers wait for their first run."""
        return sum(not job.begun for job in self._waiting())

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Let it be known, while a caller gets its items ready, that it comes."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._arrival.set()

    async def run(
        self,
        form: Format,
        options: dict[str, Any],
        items: Sequence[Hashable],
        *,
        lane: Lane = "interactive",
        alone: bool = False,
        timing: Timing | None = None,
    ) -> list[Any]:
        """Return one result or `ItemFailed` for each item. Raises `HostDied`; may be cancelled at any time.

        `timing` is told how long it has waited, and where the time of its runs went.
        """
        if self._worker.done() or not self._host.alive:
            raise HostDied(self._host.cause_of_death())
        done, now = asyncio.get_running_loop().create_future(), self._clock.time()
        weight = sum(map(form.weight, items))
        job = _Job(form, options, items, lane, alone, now, done, weight, timing or Timing(), waits_since=now)
        self._jobs.append(job)
        self._arrival.set()
        try:
            return await job.done
        finally:
            with contextlib.suppress(ValueError):
                self._jobs.remove(job)

    def close(self) -> None:
        """Answer everybody who still waits: the host is gone."""
        self._worker.cancel()
        for job in self._jobs:
            if not job.done.done():
                job.done.set_exception(HostDied(self._host.cause_of_death()))

    def _waiting(self) -> list[_Job]:
        """Those that wait for more; a caller that has gone, or that has its answer, may still be in the list."""
        return [job for job in self._jobs if not job.done.done()]

    async def _work(self) -> None:
        try:
            while True:
                self._arrival.clear()
                if not self._waiting():
                    await self._arrival.wait()
                await self._wait_for_company()
                async with self._turn():
                    # A list may have waited longer than a question that has just come, but it costs it a moment only.
                    if not all(map(self._takes_a_moment, self._waiting())):
                        await self._carry_out(self._compose(self._questions(), _MOMENT_SECONDS))
                    await self._carry_out(self._compose(self._waiting()))
        except HostDied:
            log.debug("model %s: its host is gone", self._host.plan.model_id)
        except Exception:
            log.exception("model %s: its host cannot be given runs any more", self._host.plan.model_id)
        finally:
            self._host.kill()  # the end of the host is what answers those who wait

    async def _wait_for_company(self) -> None:
        """Wait for the callers of the last run to come back, and for those who are getting their items ready."""
        started, window = self._clock.time(), self._settings.window_ms / 1000
        while window and (waiting := self._waiting()):
            until = self._last_end + window if len(waiting) < self._last_callers else started
            weight, most = sum(job.weight for job in waiting), self._weight_of_a_run(waiting[0].format)
            count = sum(len(job.left) for job in waiting)
            if self._expected and weight < most and count < self._settings.max_items:
                until = max(until, started + _PART_WAITED * weight / self._speed)
            if (left := until - self._clock.time()) <= 0:
                break
            timer = self._clock.call_later(left, self._arrival.set)
            await self._arrival.wait()
            self._arrival.clear()
            timer.cancel()

    def _weight_of_a_run(self, form: Format) -> float:
        """How much is taken on at a time."""
        return min(self._settings.max_tokens, self._speed * form.run_seconds)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for the host's turn, and have what is small done meanwhile, beside the model whose turn it is."""
        beside = self._on_cpu and self._turns.cpu_is_taken
        passing = _looked_at(asyncio.create_task(self._pass_by())) if beside else None
        try:
            async with self._turns.take(on_cpu=self._on_cpu):
                if passing:
                    passing.cancel()
                    if self._passing:
                        await self._passing  # a host has one run at a time
                yield
        finally:
            if passing:
                passing.cancel()

    async def _pass_by(self) -> None:
        """Carry out what is small, until this is cancelled, which leaves the run under way alone."""
        while True:
            async with self._turns.take(on_cpu=False):  # for one run, or questions would keep it from all others
                if run := self._compose(self._questions(), _MOMENT_SECONDS):
                    self._passing = _looked_at(asyncio.ensure_future(self._carry_out(run)))
                    await asyncio.shield(self._passing)
                    continue
            self._arrival.clear()
            await self._arrival.wait()

    def _takes_a_moment(self, job: _Job) -> bool:
        return job.weight <= self._speed * _MOMENT_SECONDS

    def _questions(self) -> list[_Job]:
        """Those that wait for what takes a moment, and cannot wait long."""
        return [job for job in self._waiting() if job.lane == "interactive" and self._takes_a_moment(job)]

    def _compose(self, jobs: list[_Job], seconds: float = math.inf) -> _Run:
        """Take of these as much as may go into one run and takes so long at most, from the most urgent first."""
        run: _Run = []
        if not jobs:
            return run
        jobs = sorted(jobs, key=lambda job: job.urgency(self._speed))
        count = self._settings.max_items
        weight = min(self._weight_of_a_run(jobs[0].format), self._speed * seconds)
        for job in jobs:
            if run and not job.may_share_with(run[0][0]):
                continue
            taken = 0
            for item in job.left:
                cost = job.format.weight(item)
                if count == 0 or (cost > weight and (run or taken)):
                    break
                count, weight, taken = count - 1, weight - cost, taken + 1
            if not taken:
                break
            run.append((job, job.left[:taken]))
        return run

    async def _carry_out(self, run: _Run) -> None:
        if not run:
            return
        form, options, started, spent = run[0][0].format, run[0][0].options, self._clock.time(), Timing()
        self._enter(run, started)
        items = list(dict.fromkeys(item for _, part in run for item in part))  # equal ones once
        try:
            results = await self._results(form, options, items, spent)
        except Exception as error:
            for job, _ in run:
                if not job.done.done():
                    job.done.set_exception(error)
            if isinstance(error, HostDied):
                raise
            log.exception("model %s: a run could not be read", self._host.plan.model_id)
            return
        self._learn(sum(map(form.weight, items)), self._clock.time() - started, form.run_seconds)
        self._last_callers, self._last_end = len(run), self._clock.time()
        for job, part in run:
            if not job.done.done():
                job.leave_run(self._last_end, spent)
                job.results += [results[item] for item in part]
                job.weight -= sum(map(form.weight, part))
                if len(job.results) == len(job.items):
                    job.done.set_result(job.results)

    def _enter(self, run: _Run, now: float) -> None:
        for job, _ in run:
            if not job.begun:
                self._observer.waited(self._host.plan.model_id, now - job.came)
            job.enter_run(now)

    async def _results(
        self, form: Format, options: dict[str, Any], items: list[Hashable], spent: Timing
    ) -> dict[Hashable, Any]:
        """Have the host answer; where it fails, find by halves which items it fails on."""
        started = self._clock.time()
        try:
            answer = await self._host.run(options, form.pack(items))
        except RunFailed as failure:
            if len(items) == 1:
                model_id = self._host.plan.model_id
                log.error("model %s failed on a run (%s):\n%s", model_id, failure, failure.traceback)  # noqa: TRY400
                return {items[0]: ItemFailed(failure)}
            middle = len(items) // 2
            return {
                **await self._results(form, options, items[:middle], spent),
                **await self._results(form, options, items[middle:], spent),
            }
        self._take_note(answer, self._clock.time() - started, len(items), spent)
        return dict(zip(items, form.unpack(answer, len(items)), strict=True))

    def _take_note(self, answer: Answer, seconds: float, items: int, spent: Timing) -> None:
        """What an engine says of a run, as `hosts.engine` has it."""
        self._observer.ran(self._host.plan.model_id, seconds, items, answer.header.get("tokens", 0))
        for part, its_seconds in answer.header.get("seconds", {}).items():
            spent.add(part, its_seconds)

    def _learn(self, weight: int, seconds: float, run_seconds: float) -> None:
        """Expect of the next run what this one has shown; a small one, which is mostly overhead, shows little."""
        if seconds > 0 and (weight / seconds > self._speed or 2 * weight >= self._speed * run_seconds):
            self._speed += _NEWEST_PART * (weight / seconds - self._speed)


def _looked_at(task: "asyncio.Future[None]") -> "asyncio.Future[None]":
    """Have asyncio not complain of a failure of the task, which is that of a host and known to all who wait for it."""
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
