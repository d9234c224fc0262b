"""What takes memory beside models: who waits for room, who makes it, and who is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_ai.errors import ResourceExhausted
from homelab_ai.models.claims import Claim, uncounted
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from support.house import House, quiet, until

pytestmark = pytest.mark.anyio

HALF = BYTES_PER_GB // 2


class Browser:
    """A process that takes memory, and goes when it is asked to and is not busy."""

    def __init__(self, house: House, takes: int | None = HALF, name: str = "The browser") -> None:
        self.house, self.takes, self.name = house, takes, name
        self.busy = True
        self.asked = 0
        self.gone = asyncio.Event()
        self.claim: Claim | None = None

    async def start(self, estimate: int = HALF) -> "Browser":
        self.claim = await self.house.models.room.claim(self.name, Footprint(estimate), self.leave)
        self.claim.hold(self)
        await quiet()
        return self

    def leave(self) -> bool:
        self.asked += 1
        return not self.busy

    async def ended(self) -> None:
        await self.gone.wait()

    async def footprint(self) -> Footprint | None:
        return None if self.takes is None else Footprint(self.takes)

    async def worked(self, takes: int) -> None:
        self.takes = takes
        self.house.clock.advance(11)
        assert self.claim
        self.claim.worked()
        await quiet()

    async def end(self) -> None:
        self.gone.set()
        await quiet()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.models.close()


def used(house: House) -> float:
    return house.models.used.memory_bytes / BYTES_PER_GB


async def test_a_claim_counts_until_its_process_has_ended(house: House) -> None:
    browser = await Browser(house, takes=BYTES_PER_GB // 4).start()
    assert used(house) == 0.25, "as measured, not as estimated"
    await browser.worked(BYTES_PER_GB)
    assert used(house) == 1.0
    assert browser.claim
    assert browser.claim.held == Footprint(BYTES_PER_GB)
    await browser.end()
    assert used(house) == 0


async def test_what_cannot_be_measured_counts_as_it_was_estimated(house: House) -> None:
    await Browser(house, takes=None).start()
    assert used(house) == 0.5


async def test_it_is_not_measured_with_each_piece_of_work(house: House) -> None:
    browser = await Browser(house).start()
    browser.takes = BYTES_PER_GB
    assert browser.claim
    browser.claim.worked()
    await quiet()
    assert used(house) == 0.5


async def test_the_next_one_is_expected_to_take_what_the_last_one_took(house: House) -> None:
    browser = await Browser(house, takes=BYTES_PER_GB).start()
    await browser.end()
    claiming = asyncio.create_task(house.models.room.claim("The browser", Footprint(HALF), lambda: False))
    await quiet()
    assert claiming.result().held == Footprint(BYTES_PER_GB)


async def test_a_start_that_fails_gives_its_claim_back(house: House) -> None:
    claim = await house.models.room.claim("The browser", Footprint(HALF), lambda: False)
    assert used(house) == 0.5
    claim.end()
    claim.end()
    assert used(house) == 0


async def test_an_idle_model_makes_room_for_a_browser(house: House) -> None:
    await house.ask("a")
    house.clock.advance(1)
    await house.ask("b")
    await Browser(house).start()
    assert house.loaded() == ["b"], "the one that was used last stays"
    assert used(house) == 1.5


async def test_a_browser_waits_for_a_model_that_is_in_use(house: House) -> None:
    asking = [*await house.at_work("a"), *await house.at_work("b")]
    starting = asyncio.create_task(Browser(house).start())
    await quiet()
    assert not starting.done()
    house.busy["a"].set()
    house.busy["b"].set()
    await asyncio.gather(*asking)
    await asyncio.wait_for(starting, 5)
    assert used(house) == 1.5


async def test_an_idle_browser_makes_room_for_a_model_before_other_models_do(house: House) -> None:
    browser = await Browser(house, takes=BYTES_PER_GB).start(BYTES_PER_GB)
    browser.busy = False
    await house.ask("a")
    asking = house.asking("b")
    await until(lambda: browser.asked)
    await quiet()
    assert not asking.done()
    await browser.end()
    await asking
    assert house.loaded() == ["a", "b"]
    assert browser.asked == 1, "it is on its way already"


async def test_a_model_waits_for_a_browser_that_is_busy(house: House) -> None:
    browser = await Browser(house, takes=2 * BYTES_PER_GB).start()
    asking = house.asking("a")
    await quiet()
    assert house.loaded() == []
    browser.busy = False
    assert browser.claim
    browser.claim.worked()
    await browser.end()
    await asking


async def test_models_go_for_a_browser_that_has_grown(house: House) -> None:
    await house.ask("a")
    house.clock.advance(1)
    browser = await Browser(house).start()
    await house.ask("a")
    await browser.worked(BYTES_PER_GB + HALF)
    await until(lambda: house.loaded() == [])


async def test_a_browser_that_has_grown_over_everything_goes_when_it_is_idle(house: House) -> None:
    browser = await Browser(house).start()
    await browser.worked(3 * BYTES_PER_GB)
    browser.busy = False
    asking = house.asking("a")
    await quiet()
    await browser.end()
    await asking
    starting = await Browser(house).start()
    assert starting.claim, "one peak does not keep it out for ever"


async def test_what_can_never_fit_is_refused(house: House) -> None:
    with pytest.raises(
        ResourceExhausted, match=r"The browser needs 3.00 GB, but resources.max_memory_gb allows 2.00 GB"
    ):
        await Browser(house).start(3 * BYTES_PER_GB)
    await house.ask("d")
    with pytest.raises(ResourceExhausted, match=r"what is pinned stays loaded \(d\)"):
        await Browser(house).start(BYTES_PER_GB + HALF)
    await Browser(house).start(BYTES_PER_GB)


async def test_whoever_waits_may_go(house: House) -> None:
    asking = [*await house.at_work("a"), *await house.at_work("b")]
    starting = asyncio.create_task(Browser(house).start())
    await quiet()
    starting.cancel()
    await asyncio.wait([starting])
    house.busy["a"].set()
    house.busy["b"].set()
    await asyncio.gather(*asking)
    assert used(house) <= 2.0
    assert "d" not in house.loaded()
    await house.ask("c")


async def test_whoever_goes_as_it_is_granted_gives_it_back(house: House) -> None:
    first = await Browser(house, takes=2 * BYTES_PER_GB).start()
    starting = asyncio.create_task(Browser(house, name="Another").start())
    await quiet()
    assert first.claim
    first.claim.end()
    assert used(house) == 0.5, "granted, and not taken yet"
    starting.cancel()
    await asyncio.wait([starting])
    assert used(house) == 0


async def test_several_come_in_their_order(house: House) -> None:
    first = await Browser(house, takes=BYTES_PER_GB + HALF).start()
    order: list[str] = []

    async def start(name: str, takes: int) -> None:
        await Browser(house, takes, name).start(takes)
        order.append(name)

    tasks = [asyncio.create_task(start("large", BYTES_PER_GB)), asyncio.create_task(start("small", HALF))]
    await quiet()
    assert order == [], "a small one that would fit does not overtake"
    await first.end()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_those_who_wait_at_the_end_are_told(house: House) -> None:
    asking = [*await house.at_work("a"), *await house.at_work("b")]
    browser = asyncio.create_task(Browser(house).start())
    await quiet()
    await house.models.close()
    with pytest.raises(ResourceExhausted, match="shutting down"):
        await browser
    with pytest.raises(ResourceExhausted, match="shutting down"):
        await Browser(house).start()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_what_is_not_counted_is_granted_at_once() -> None:
    claim = await uncounted(lambda: False)
    claim.worked()
    claim.end()
    assert claim.held == Footprint()
