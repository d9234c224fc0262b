"""What takes memory beside models: the browser, and what reads pages. Each has its part of the budget by a claim.

It is asked for before the process starts, and waits until there is room, for which models go as they do for another
model. It follows what the process takes as measured, and ends with it. A process that is idle goes when its room is
needed, before any model does: it is started again faster than they are loaded.

Only facts and what follows from them; `scheduler` acts on it.
"""

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from homelab_ai.errors import ServiceError
from homelab_ai.models import memory
from homelab_ai.models.clock import Clock
from homelab_ai.models.memory import Footprint

_MEASURED_AGAIN_AFTER_SECONDS = 10.0


class Holder(Protocol):
    """The process that a claim is for."""

    async def ended(self) -> None:
        """Wait until it is gone and its memory back with the system."""
        ...

    async def footprint(self) -> Footprint | None:
        """Measure what it takes now. None where this system does not tell."""
        ...


class Claim(Protocol):
    """A part of the budget."""

    @property
    def held(self) -> Footprint:
        """How much that is, as last measured."""
        ...

    def hold(self, holder: Holder) -> None:
        """Have it end with this process, and follow what that takes."""
        ...

    def worked(self) -> None:
        """Let it be known that the process has done something: it may have grown, and may be idle now."""
        ...

    def end(self) -> None:
        """Give it back, where no process has come of it."""
        ...


Leave = Callable[[], bool]
"""Called when the room is needed: ends what holds it, if that is idle, and tells whether it does. Returns at once."""
MakeClaim = Callable[[Leave], Awaitable[Claim]]
"""Waits until there is room. May be cancelled at any time."""


class Room(Protocol):
    """Where memory is to be had."""

    async def claim(self, what: str, estimate: Footprint, leave: Leave) -> Claim:
        """Wait until there is room for `what`, the subject of a sentence. May be cancelled at any time.

        `estimate`, or what the last one took when it was fresh if that was more, counts until this one is measured.
        Raises `ResourceExhausted` where there can never be enough.
        """
        ...


class _Uncounted:
    held = Footprint()

    def hold(self, holder: Holder) -> None: ...

    def worked(self) -> None: ...

    def end(self) -> None: ...


async def uncounted(_: Leave) -> Claim:
    """Grant it at once: the claim of what is too small to be counted."""
    return _Uncounted()


class Claims:
    """Those that there are. Every method belongs to the event loop's thread."""

    def __init__(self, clock: Clock, settle: Callable[[], None]) -> None:
        """`settle` is called when something has changed: there may be room for somebody, or too little for all."""
        self.clock = clock
        self.settle = settle
        self.fresh: dict[str, Footprint] = {}
        """What each was last found to take when it had just started."""
        self._granted: list[_Claim] = []
        self._waiting: list[_Claim] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed: ServiceError | None = None

    @property
    def held(self) -> Footprint:
        """What they have of the budget."""
        return memory.total(claim.held for claim in self._granted)

    async def claim(self, what: str, estimate: Footprint, leave: Leave) -> Claim:
        """As `Room` says."""
        if self._closed:
            raise self._closed
        claim = _Claim(self, what, estimate.largest(self.fresh.get(what, estimate)), leave)
        self._waiting.append(claim)
        self.settle()
        try:
            await claim.decision
        except BaseException:
            claim.end()
            raise
        return claim

    def admit(self, room: Footprint, most: Footprint, refusal: Callable[[str, Footprint], ServiceError]) -> Footprint:
        """Grant what fits into the room, in the order of arrival; return what the first that does not fit lacks.

        One that needs more than `most`, which is all that there could be, is refused.
        """
        for claim in [*self._waiting]:
            if claim.held.fits(room):
                self._waiting.remove(claim)
                self._granted.append(claim)
                claim.decide(None)
                room -= claim.held
            elif not claim.held.fits(most):
                self._waiting.remove(claim)
                claim.decide(refusal(claim.what, claim.held))
            else:
                return claim.held.missing(room)
        return Footprint()

    def let_go(self, missing: Footprint) -> Footprint:
        """Have those that are idle leave until so much comes back; return what is missing all the same."""
        for claim in self._granted:
            if claim.held.overlaps(missing):
                claim.leaving = claim.leaving or claim.leave()
                if claim.leaving:
                    missing = missing.missing(claim.held)
        return missing

    def withdraw(self, claim: "_Claim") -> None:
        """Forget it."""
        for among in (self._granted, self._waiting):
            if claim in among:
                among.remove(claim)
        self.settle()

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have this done, in a context of its own: it outlives the request that happened to start it."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, refusal: ServiceError) -> None:
        """Refuse those who wait and those who come, and follow no process any more."""
        self._closed = refusal
        for claim in [*self._waiting]:
            claim.decide(refusal)
        for task in (tasks := [*self._tasks]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False)
class _Claim:
    claims: Claims
    what: str
    held: Footprint
    leave: Leave
    leaving: bool = False
    decision: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _holder: Holder | None = None
    _is_fresh: bool = True
    _measured_at: float = -math.inf

    def decide(self, refusal: ServiceError | None) -> None:
        if self.decision.done():  # whoever waited has gone, and withdraws it presently
            return
        if refusal:
            self.decision.set_exception(refusal)
        else:
            self.decision.set_result(None)

    def hold(self, holder: Holder) -> None:
        self._holder = holder
        self.claims.task(self._until_ended(holder))
        self.worked()

    def worked(self) -> None:
        now = self.claims.clock.time()
        if self._holder and now - self._measured_at >= _MEASURED_AGAIN_AFTER_SECONDS:
            self._measured_at = now
            self.claims.task(self._measure(self._holder))
        self.claims.settle()

    def end(self) -> None:
        self.claims.withdraw(self)

    async def _until_ended(self, holder: Holder) -> None:
        await holder.ended()
        self.end()

    async def _measure(self, holder: Holder) -> None:
        if footprint := await holder.footprint():
            if self._is_fresh:  # a peak, later on, must not keep the next one out
                self.claims.fresh[self.what] = footprint
            self._is_fresh = False
            self.held = footprint
            self.claims.settle()
