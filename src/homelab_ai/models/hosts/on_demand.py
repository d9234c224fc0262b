"""A child process for work that needs no model: started with the first piece, and gone when none has come for a while.

What strangers have made can end the process that reads it. Then the process is replaced and the piece tried once more,
alone in being blamed: others that waited for the same process are tried again without that, as often as it takes. One
that hung it is not tried again.
"""

import asyncio
import contextvars
from typing import Any

from homelab_ai.models.claims import Claim, MakeClaim, uncounted
from homelab_ai.models.clock import Clock, Timer
from homelab_ai.models.hosts.host import Answer, Host, HostDied, HostPlan, StartHost

_IDLE_SECONDS = 60.0
_DEATHS = 2
"""Under a piece of work, or at the start, after which it is given up."""


class EndsItsHost(Exception):
    """This very piece of work ends whatever process it is given to, or takes it too long."""


class OnDemandHost:
    """One host at a time, started when it is wanted. Every method belongs to the event loop's thread."""

    def __init__(self, start_host: StartHost, plan: HostPlan, clock: Clock, claim: MakeClaim = uncounted) -> None:
        """Make one that is not started. It waits for its `claim` before that."""
        self._start_host = start_host
        self._plan = plan
        self._clock = clock
        self._make_claim = claim
        self._host: Host | None = None
        self._claim: Claim | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._timer: Timer | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Host | None:
        """The process that there is now."""
        return self._host if self._host and self._host.alive else None

    @property
    def waiting(self) -> int:
        """How many pieces of work it is at, or has yet to do."""
        return self._waiting

    def follow(self, plan: HostPlan) -> None:
        """Start it by this plan from now on. What it is at is done once more, by the next one."""
        if plan != self._plan:
            self._plan = plan
            self._stop()

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        """Have a piece of work done. May be cancelled at any time, and takes as long as that of others before it.

        Raises `EndsItsHost`, `RunFailed`, or `HostLoadFailed` where the process cannot be started.
        """
        self._waiting += 1
        try:
            return await self._run(options, body)
        finally:
            self._waiting -= 1
            self._set_timer()
            if self._claim:
                self._claim.worked()

    async def close(self) -> None:
        """End the process."""
        self._stop()
        while self._stopping:
            await asyncio.wait(self._stopping)

    async def _run(self, options: dict[str, Any], body: bytes) -> Answer:
        deaths = 0
        while True:
            host = None
            try:
                host = await self._running()
                return await host.run(options, body)
            except HostDied as death:
                own = host is None or death.run_had_started
                deaths += own
                if deaths >= _DEATHS or (own and death.hung):
                    raise EndsItsHost from death

    async def _running(self) -> Host:
        async with self._starting:  # one start, however many wait for it
            if not (self._host and self._host.alive):
                self._host = await self._start()
            return self._host

    async def _start(self) -> Host:
        claim = await self._make_claim(self._leave)
        try:
            host = await self._start_host(self._plan)
        except BaseException:
            claim.end()
            raise
        claim.hold(host)
        self._claim = claim
        return host

    def _leave(self) -> bool:
        if self._waiting:
            return False
        self._stop()
        return True

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._clock.call_later(_IDLE_SECONDS, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._waiting:
            self._stop()

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._host:
            stop = asyncio.create_task(self._host.stop(), context=contextvars.Context())
            self._stopping.add(stop)
            stop.add_done_callback(self._stopping.discard)
            self._host = None
