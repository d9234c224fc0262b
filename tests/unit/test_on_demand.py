"""A process on demand: who is blamed for its end, and that nobody else pays for it."""

import asyncio
from typing import Any

import pytest

from homelab_ai.models.hosts.host import Answer, Host, HostDied, HostPlan, OnProgress
from homelab_ai.models.hosts.on_demand import EndsItsHost, OnDemandHost
from support.clock import Clock

pytestmark = pytest.mark.anyio

PLAN = HostPlan("(some work)", "an.engine", {}, 10)


class OneAtATime(Host):
    """Does one piece of work after the other, and dies or hangs when the piece says so; all that wait die with it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._dead_of = b""

    @property
    def alive(self) -> bool:
        return not self._dead_of

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        async with self._turn:
            await asyncio.sleep(0)
            started = not self._dead_of
            if started and body in {b"kills", b"hangs"}:
                self._dead_of = body
            if self._dead_of:
                raise HostDied("dead", run_had_started=started, hung=self._dead_of == b"hangs")
            return Answer({}, body)

    async def stop(self) -> None:
        self._dead_of = b"the service"


class Starts:
    """Stands where `Host.start` stands."""

    def __init__(self) -> None:
        self.count = 0
        self.dies = False

    async def __call__(self, plan: HostPlan, on_progress: OnProgress | None = None, /) -> Host:
        self.count += 1
        await asyncio.sleep(0)
        if self.dies:
            raise HostDied("dead before it was ready")
        return OneAtATime()


async def test_what_kills_twice_or_hangs_once_is_given_up() -> None:
    starts = Starts()
    work = OnDemandHost(starts, PLAN, Clock())
    with pytest.raises(EndsItsHost):
        await work.run({}, b"kills")
    assert starts.count == 2
    with pytest.raises(EndsItsHost):
        await work.run({}, b"hangs")
    assert starts.count == 3
    await work.close()


async def test_however_often_others_end_it_a_good_piece_is_done() -> None:
    work = OnDemandHost(Starts(), PLAN, Clock())
    hostile = [asyncio.create_task(work.run({}, body)) for body in (b"kills", b"hangs") * 6]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await work.run({}, b"good")).body == b"good"
    assert {type(each) for each in await asyncio.gather(*hostile, return_exceptions=True)} == {EndsItsHost}
    await work.close()


async def test_a_process_that_never_gets_ready_is_not_started_for_ever() -> None:
    starts = Starts()
    starts.dies = True
    work = OnDemandHost(starts, PLAN, Clock())
    with pytest.raises(EndsItsHost):
        await work.run({}, b"good")
    assert starts.count == 2
    await work.close()
