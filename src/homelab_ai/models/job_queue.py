"""What callers ask of one model and have not got yet, in the order in which it is to be done.

A run is bounded by the time that it will take, by what the model was found to do in a second. So a long list is done
in parts, and a short question that comes meanwhile is in the next run. Who goes first is decided by one figure: the
seconds of work that a caller still asks for, less the seconds that it has waited. Short questions come before long
lists, what has begun before what has not, and nobody waits for ever behind those who come later.
"""

import asyncio
import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from homelab_ai.models.hosts.host import Answer
from homelab_ai.models.timing import Timing
from homelab_ai.settings import BatchingSettings

Lane = Literal["interactive", "bulk"]

MOMENT_SECONDS = 0.05
"""Work of no more than this is a moment. It passes lists that have waited, and the model whose turn it is: a question
is not to wait for the end of an index, or of a picture."""
_WEIGHT_PER_SECOND = 4000.0
"""What a model is taken to do until it was seen at work: tokens of a small one on a small CPU."""
_BULK_WAITS_SECONDS = 2.0
"""What is in the bulk lane is treated as if it had come so much later."""
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


@dataclass(eq=False)
class Job:
    """One caller's items."""

    format: Format
    options: dict[str, Any]
    items: Sequence[Hashable]
    lane: Lane
    alone: bool
    """It shares no run, and has the host for itself: it was in a run under which a host died."""
    came: float
    done: asyncio.Future[list[Any]]
    timing: Timing
    begun: int = 0
    """How many of the items have been given to the host."""
    in_runs: int = 0
    waits_since: float = field(init=False)
    """While it is in no run."""
    weight: int = field(init=False)
    """Of the items that are left."""

    def __post_init__(self) -> None:
        self.weight = sum(map(self.format.weight, self.items))
        self.waits_since = self.came
        self.results: list[Any] = [None] * len(self.items)

    @property
    def left(self) -> int:
        """How many of the items have not been given to the host yet."""
        return len(self.items) - self.begun

    def enter_run(self, count: int, now: float) -> "Part":
        """Give away so many of the items that are left."""
        if not self.in_runs:
            self.timing.add("queue", now - self.waits_since)
        part = Part(self, self.begun, self.items[self.begun : self.begun + count])
        self.begun += count
        self.in_runs += 1
        self.weight -= part.weight
        return part

    def leave_run(self, now: float) -> None:
        """Take note of the end of a run."""
        self.in_runs -= 1
        self.waits_since = now
        if not (self.in_runs or self.left or self.done.done()):
            self.done.set_result(self.results)

    def urgency(self, speed: float) -> float:
        """Its place in the order, the least first: seconds of work less seconds waited, but for the time of day."""
        return self.weight / speed + self.came + (_BULK_WAITS_SECONDS if self.lane == "bulk" else 0)

    def may_share_with(self, other: "Job") -> bool:
        """Tell whether both may be in one run."""
        return not (self.alone or other.alone) and self.format is other.format and self.options == other.options


@dataclass(frozen=True)
class Part:
    """Some of a job's items, which are in a run."""

    job: Job
    start: int
    """Where they stand among its items."""
    items: Sequence[Hashable]

    @cached_property
    def weight(self) -> int:
        """Of these items."""
        return sum(map(self.job.format.weight, self.items))

    def end(self, results: dict[Hashable, Any], spent: Timing, now: float) -> None:
        """Give the job what the host has made of them, and of how the time went."""
        self.job.results[self.start : self.start + len(self.items)] = [results[item] for item in self.items]
        self.job.timing.add_all(spent)
        self.job.leave_run(now)


def weight_of(jobs: Sequence[Job]) -> int:
    """Return how much of these is left, in tokens."""
    return sum(job.weight for job in jobs)


@dataclass
class JobQueue:
    """The jobs of one model, until they have their answer."""

    batching: BatchingSettings
    run_seconds_shared_by: int = 1
    """How many runs at a time share what one is to take."""
    jobs: list[Job] = field(default_factory=list)
    speed: float = _WEIGHT_PER_SECOND
    """Tokens that the model does in a second, as far as is known."""

    def waiting(self) -> list[Job]:
        """Those that wait for a run; a caller that has gone, or that has its answer, may still be among the jobs."""
        return [job for job in self.jobs if job.left and not job.done.done()]

    def questions(self) -> list[Job]:
        """Those that wait for what takes a moment, and cannot wait long."""
        return [job for job in self.waiting() if job.lane == "interactive" and self.takes_a_moment(job.weight)]

    def by_urgency(self, jobs: list[Job]) -> list[Job]:
        """Return these, the most urgent first."""
        return sorted(jobs, key=lambda job: job.urgency(self.speed))

    def takes_a_moment(self, weight: float) -> bool:
        """Tell whether so much work is a moment's."""
        return weight <= self.speed * MOMENT_SECONDS

    def weight_of_a_run(self, form: Format) -> float:
        """How much is taken on at a time."""
        return min(self.batching.max_tokens, self.speed * form.run_seconds / self.run_seconds_shared_by)

    def make_a_full_run(self, jobs: list[Job]) -> bool:
        """Tell whether these are as much as is taken on at a time."""
        weight, count = weight_of(jobs), sum(job.left for job in jobs)
        return weight >= self.weight_of_a_run(jobs[0].format) or count >= self.batching.max_items

    def compose(self, jobs: list[Job], now: float, *, seconds: float = math.inf) -> list[Part]:
        """Take of these as much as may go into one run and takes so long at most, from the most urgent first."""
        run: list[Part] = []
        if not jobs:
            return run
        jobs = self.by_urgency(jobs)
        count = self.batching.max_items
        weight = min(self.weight_of_a_run(jobs[0].format), self.speed * seconds)
        for job in jobs:
            if run and not job.may_share_with(run[0].job):
                continue
            taken = 0
            for item in itertools.islice(job.items, job.begun, None):
                cost = job.format.weight(item)
                if count == 0 or (cost > weight and (run or taken)):
                    break
                count, weight, taken = count - 1, weight - cost, taken + 1
            if not taken:
                break
            run.append(job.enter_run(taken, now))
        return run

    def learn(self, weight: int, seconds: float, run_seconds: float) -> None:
        """Expect of the next run what this one has shown; a small one, which is mostly overhead, shows little."""
        run_seconds /= self.run_seconds_shared_by
        if seconds > 0 and (weight / seconds > self.speed or 2 * weight >= self.speed * run_seconds):
            self.speed += _NEWEST_PART * (weight / seconds - self.speed)
