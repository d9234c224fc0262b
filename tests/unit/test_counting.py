"""How requests are counted in this process: what a window lets through, what is said of it, and what is remembered."""

import math
import sys
from typing import TYPE_CHECKING, cast

import pytest

from homelab_ai.api import counting
from homelab_ai.api.counting import Counter, CounterUnavailableError, MemoryCounter, Quota

if TYPE_CHECKING:
    from limits.aio.storage.redis.redispy import RedispyBridge

pytestmark = pytest.mark.anyio


class Time:
    """The time of day, which goes on when it is told to. It begins with a window."""

    def __init__(self) -> None:
        self.now = 86_400.0 * 20_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("time.time", time)
    return time


async def spent(counter: MemoryCounter, rate_limit: str, *name: str) -> Quota:
    """Use a limit up, and return what the refusal says."""
    while (quota := await counter.hit(rate_limit, *name)).allowed:
        pass
    return quota


async def test_a_limit_lets_through_what_it_says(time: Time) -> None:
    counter = MemoryCounter()
    quotas = [await counter.hit("3/minute", "a") for _ in range(5)]
    assert [(quota.allowed, quota.remaining) for quota in quotas] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
        (False, 0),
    ]
    assert {quota.limit for quota in quotas} == {3}
    assert (await counter.hit("3/minute", "b")).remaining == 2
    assert (await counter.hit("3/minute", "a", "b")).remaining == 2


@pytest.mark.parametrize("rate_limit", ["1/second", "1/minute", "3/minute", "7/hour", "600/minute", "5/day"])
@pytest.mark.parametrize("passed", [0.0, 0.25, 0.5, 0.999])
async def test_who_waits_as_long_as_they_are_told_is_let_in(time: Time, rate_limit: str, passed: float) -> None:
    counter = MemoryCounter()
    window = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[rate_limit.partition("/")[2]]
    for _ in range(6):  # windows that are full to different parts
        time.now += passed * window
        refused = await spent(counter, rate_limit, "a")
        assert not refused.remaining
        assert 1 <= refused.reset_seconds <= window + 1
        time.now += refused.reset_seconds
        assert (await counter.hit(rate_limit, "a")).allowed


async def test_two_windows_never_hold_twice_the_limit_at_their_border(time: Time) -> None:
    counter = MemoryCounter()
    time.now += 59
    await spent(counter, "600/minute", "a")
    time.now += 2
    let_in = 0
    while (await counter.hit("600/minute", "a")).allowed:
        let_in += 1
    assert let_in <= 11, "a second's worth, and one that is rounded"


async def test_what_remains_grows_while_nobody_asks(time: Time) -> None:
    counter = MemoryCounter()
    await spent(counter, "60/minute", "a")
    left = []
    for _ in range(4):
        left.append((await counter.look("60/minute", "a")).remaining)
        time.now += 41
    assert left[0] == 0
    assert left == sorted(left)
    assert left[-1] == 60


async def test_to_look_counts_nothing(time: Time) -> None:
    counter = MemoryCounter()
    for _ in range(5):
        assert (await counter.look("2/minute", "a")).remaining == 2
    assert (await counter.hit("2/minute", "a")).remaining == 1


async def test_what_has_been_counted_takes_no_more_memory_than_it_may(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_MOST_COUNTED", 50)
    counter = MemoryCounter()
    for number in range(500):
        await counter.hit("2/minute", str(number))
        assert len(counter._storage.expirations) <= 50
        assert len(counter._storage.locks) <= 50


def test_the_headers_are_whole_numbers() -> None:
    quota = Quota("5/minute", limit=5, remaining=2, reset_seconds=17)
    assert quota.headers == {"RateLimit-Limit": "5", "RateLimit-Remaining": "2", "RateLimit-Reset": "17"}


async def test_without_the_client_of_redis_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(CounterUnavailableError, match=r'pip install -c constraints\.txt -e "\.\[redis\]"'):
        Counter("redis://:secret@127.0.0.1")


@pytest.mark.parametrize(
    "url", ["redis://:secret@127.0.0.1/0?socket_timeout=soon", "redis://:secret@127.0.0.1/0?db=secret"]
)
async def test_an_option_that_redis_does_not_take_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(CounterUnavailableError) as raised:
        Counter(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("redis://nas.lan", "nas.lan", 6379),
        ("redis://user:a%40b@nas.lan/1", "nas.lan", 6379),
        ("rediss://[::1]:", "::1", 6379),
        ("redis://[::1]:7000/2", "::1", 7000),
    ],
)
async def test_a_port_that_is_not_given_is_the_usual_one(url: str, host: str, port: int) -> None:
    counter = Counter(url)
    assert counter._redis
    options = cast("RedispyBridge", counter._redis.bridge).storage.connection_pool.connection_kwargs
    assert (options["host"], options["port"]) == (host, port)
    await counter.close()


async def test_a_limit_that_nobody_reaches_is_no_work(time: Time) -> None:
    quota = await MemoryCounter().hit("999999999/day", "a")
    assert quota.remaining == 999_999_998
    assert math.isfinite(quota.reset_seconds)
