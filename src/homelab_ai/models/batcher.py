"""What many callers ask of one model, made into few runs of its host.

While a run is under way, what arrives waits; when it is over, all that waits goes into the next one. Nothing is held
back for what might come, with two exceptions. After a run that several callers shared, there is a moment for them to
ask again together: they have their answers now. And those who are known to come, because their items are being made
ready, are waited for a small part of the time that the run will take.

    callers ──▶ by urgency ──▶ a run: as many items as fit by count, tokens and time ──▶ host ──▶ each its own results

A host that takes several runs at a time is given the next one before the last has ended, so that it never waits for
callers to read their answers and ask again. One of its places is kept for questions: they begin beside a list.

What goes into a run, and who goes first, is decided by the `job_queue`. What takes a moment only is done before every
run of longer work, and where another model has the CPU, it does not wait for its turn.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from homelab_ai.models.clock import Clock
from homelab_ai.models.hosts.host import Answer, Host, HostDied, RunFailed
from homelab_ai.models.job_queue import MOMENT_SECONDS, Format, Job, JobQueue, Lane, Part, weight_of
from homelab_ai.models.observer import Nobody, Observer
from homelab_ai.models.timing import Timing
from homelab_ai.models.turns import Turns
from homelab_ai.settings import BatchingSettings

log = logging.getLogger(__name__)

_PART_WAITED = 0.1
"""Of the time that a run takes, for those who are about to be ready: there is more to win by one run fewer."""
_ENOUGH_FOR_A_RUN = 96
"""Tokens, about. Fewer take a host hardly less time."""


@dataclass(frozen=True)
class ItemFailed:
    """What stands in the place of a result when the engine failed on that very item."""

    failure: RunFailed


@dataclass(eq=False)
class _Run:
    parts: list[Part]
    started: float
    share_at_start: float
    """What a run would have had of the host by then, that had begun with the host."""

    def __post_init__(self) -> None:
        self.weight = sum(part.weight for part in self.parts)


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
        self._most = host.described.get("runs_at_once", 1)
        self._most_long = max(1, self._most - 1)
        """Of these, how many may be more than questions."""
        self._queue = JobQueue(settings, self._most_long)
        self._under_way: set[_Run] = set()
        self._expected = 0
        """How many callers are getting their items ready."""
        self._news = asyncio.Event()
        """Set when something has come, or has ended."""
        self._share, self._share_at = 0.0, clock.time()
        """Seconds that each run has had of the host until then, had it begun with the host."""
        self._last_callers = 0
        self._last_end = clock.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker = asyncio.create_task(self._work())

    @property
    def backlog_seconds(self) -> float:
        """How long what is not done yet will take, as far as is known."""
        weight = weight_of(self._queue.waiting()) + sum(run.weight for run in self._under_way)
        return weight / self._queue.speed

    @property
    def queued(self) -> int:
        """How many callers wait for their first run."""
        return sum(not job.begun for job in self._queue.waiting())

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Let it be known, while a caller gets its items ready, that it comes."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._news.set()

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
        done = asyncio.get_running_loop().create_future()
        job = Job(form, options, items, lane, alone, self._clock.time(), done, timing or Timing())
        self._queue.jobs.append(job)
        self._news.set()
        try:
            return await job.done
        finally:
            with contextlib.suppress(ValueError):
                self._queue.jobs.remove(job)

    def close(self) -> None:
        """Answer everybody who still waits: the host is gone."""
        self._worker.cancel()
        for job in self._queue.jobs:
            if not job.done.done():
                job.done.set_exception(HostDied(self._host.cause_of_death()))

    # --- when a run begins

    async def _work(self) -> None:
        with self._end_of_host_at_any_fault():
            while True:
                await self._until(self._queue.waiting)
                await self._wait_for_company()
                async with self._turn():
                    await self._give_runs()

    @contextlib.contextmanager
    def _end_of_host_at_any_fault(self) -> Iterator[None]:
        """See to it that nobody waits for ever: the end of the host is what answers those who wait."""
        try:
            yield
        except HostDied:
            log.debug("model %s: its host is gone", self._host.plan.model_id)
            self._host.kill()
        except Exception:
            log.exception("model %s: its host cannot be given runs any more", self._host.plan.model_id)
            self._host.kill()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _wait_for_company(self) -> None:
        """Wait for the callers of the last run to come back, and for those who are getting their items ready."""
        started, window = self._clock.time(), self._settings.window_ms / 1000
        while window and (waiting := self._queue.waiting()):
            until = self._last_end + window if len(waiting) < self._last_callers else started
            if self._expected and not self._queue.make_a_full_run(waiting):
                until = max(until, started + _PART_WAITED * weight_of(waiting) / self._queue.speed)
            if (left := until - self._clock.time()) <= 0:
                break
            timer = self._clock.call_later(left, self._news.set)
            self._news.clear()
            await self._news.wait()
            timer.cancel()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for the host's turn, and have what is small done meanwhile, beside the model whose turn it is."""
        if not self._on_cpu:
            yield
            return
        passing = asyncio.create_task(self._pass_by()) if self._turns.cpu_is_taken else None
        try:
            async with self._turns.on_cpu():
                if passing:
                    passing.cancel()
                yield
        finally:
            if passing:
                passing.cancel()

    async def _pass_by(self) -> None:
        """Have what is small done, a run at a time."""
        with self._end_of_host_at_any_fault():
            while True:
                await self._until(lambda: self._queue.questions() and not self._under_way)
                await self._begin(self._queue.questions, MOMENT_SECONDS)

    async def _give_runs(self) -> None:
        """Have what waits done, and what comes until all has ended, unless another model wants the CPU meanwhile."""
        # A list may have waited longer than a question that has just come, but it costs it a moment only.
        if not all(self._queue.takes_a_moment(job.weight) for job in self._queue.waiting()):
            await self._begin(self._queue.questions, MOMENT_SECONDS)
        await self._begin(self._those_of_the_first)
        while self._under_way:
            self._news.clear()
            if self._is_time_for_a_question():
                await self._begin(self._queue.questions, MOMENT_SECONDS)
            elif self._is_time_for_the_next():
                await self._begin(self._queue.waiting)
            else:
                await self._news.wait()

    def _may_begin_another(self, most: int) -> bool:
        """Whether it would begin at once: who else comes while it waits for a place has changed what is to be next."""
        return (
            len(self._under_way) < most
            and not self._turns.places.locked()
            and not (self._on_cpu and self._turns.cpu_is_wanted)
        )

    def _is_time_for_a_question(self) -> bool:
        """Whether there is one, and what is under way takes longer. Questions without end have one place, not all."""
        return (
            self._may_begin_another(self._most_now)
            and not any(self._queue.takes_a_moment(run.weight) for run in self._under_way)
            and bool(self._queue.questions())
        )

    def _is_time_for_the_next(self) -> bool:
        """Whether, while a run is under way, the callers of the last one are back, or others in their place."""
        if not self._may_begin_another(min(self._most_now, self._most_long)):
            return False
        waiting = self._queue.waiting()
        are_back = len(waiting) >= self._last_callers and weight_of(waiting) >= _ENOUGH_FOR_A_RUN
        return bool(waiting) and (are_back or self._queue.make_a_full_run(waiting))

    def _those_of_the_first(self) -> list[Job]:
        """Those that wait or, if they are enough for several runs at a time, the most urgent of them."""
        waiting = self._queue.by_urgency(self._queue.waiting())
        enough = weight_of(waiting) >= _ENOUGH_FOR_A_RUN * self._most_long
        return waiting[: math.ceil(len(waiting) / self._most_long)] if enough else waiting

    @property
    def _most_now(self) -> int:
        """How many runs may be under way at a time. Under which of two a host has died, nobody could tell."""
        return 1 if any(job.alone for job in self._queue.jobs) else self._most

    # --- what happens in a run

    async def _begin(self, jobs: Callable[[], list[Job]], seconds: float = math.inf) -> None:
        """Begin a run over some of these jobs as soon as there is a place for it, if there are any then."""
        while True:
            await self._until(lambda: len(self._under_way) < self._most_now)
            await self._turns.places.acquire()
            if len(self._under_way) < self._most_now:  # as it was before that wait
                break
            self._turns.places.release()
        if not self._host.alive:
            self._turns.places.release()
            raise HostDied(self._host.cause_of_death())
        now = self._clock.time()
        if parts := self._queue.compose(jobs(), now, seconds=seconds):
            self._count_shares(now)
            run = _Run(parts, now, self._share)
            self._under_way.add(run)
            task = asyncio.create_task(self._carry_out(run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._turns.places.release()

    async def _carry_out(self, run: _Run) -> None:
        spent = Timing()
        try:
            with self._end_of_host_at_any_fault():
                try:
                    results = await self._results_of(run, spent)
                except Exception as error:
                    for part in run.parts:
                        if not part.job.done.done():
                            part.job.done.set_exception(error)
                    if isinstance(error, HostDied):
                        raise
                    log.exception("model %s: a run could not be read", self._host.plan.model_id)
                else:
                    self._end(run, results, spent)
        finally:
            self._count_shares(self._clock.time())
            self._under_way.remove(run)
            self._turns.places.release()
            self._news.set()

    async def _results_of(self, run: _Run, spent: Timing) -> dict[Hashable, Any]:
        for part in run.parts:
            if part.start == 0:
                self._observer.waited(self._host.plan.model_id, run.started - part.job.came)
        items = list(dict.fromkeys(item for part in run.parts for item in part.items))  # equal ones once
        return await self._results(run.parts[0].job.format, run.parts[0].job.options, items, spent)

    def _end(self, run: _Run, results: dict[Hashable, Any], spent: Timing) -> None:
        now, form = self._clock.time(), run.parts[0].job.format
        self._count_shares(now)
        self._queue.learn(sum(map(form.weight, results)), self._share - run.share_at_start, form.run_seconds)
        self._last_callers, self._last_end = len(run.parts), now
        for part in run.parts:
            part.end(results, spent, now)

    def _count_shares(self, now: float) -> None:
        """Take note, before their number changes, that all runs under way had their parts of the time until now."""
        self._share += (now - self._share_at) / max(1, len(self._under_way))
        self._share_at = now

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
