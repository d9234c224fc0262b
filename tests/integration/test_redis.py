"""Requests counted in a real Redis: shared, bounded in what they wait, and counted here while it is away."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from contract.answers import bearer, key_entry, refused, serving
from homelab_ai.api import counting
from homelab_ai.api.counting import Counter
from homelab_ai.settings import Settings
from support.clock import Clock
from support.redis import PASSWORD, RedisServer
from support.server import Server, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Wait long for Redis, for this machine may be busy; until a test says otherwise."""

    def wait(seconds: float) -> None:
        monkeypatch.setattr(counting, "_PATIENCE_SECONDS", seconds)

    usual = counting._PATIENCE_SECONDS
    assert usual <= 0.1
    wait(30)
    return wait


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def counter(redis: RedisServer, clock: Clock) -> AsyncIterator[Counter]:
    counter = Counter(redis.url, clock.time)
    yield counter
    await counter.close()


def said(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return list(dict.fromkeys(log.records))  # which handlers of more than one logger bring


async def left(counter: Counter) -> int:
    return (await counter.hit("9/day", "key", "app")).remaining


async def test_two_services_count_together(redis: RedisServer, counter: Counter) -> None:
    other = Counter(redis.socket_url)
    assert [await left(each) for each in (counter, other, counter, other)] == [8, 7, 6, 5]
    await other.close()


async def test_who_waits_as_long_as_they_are_told_is_let_in(counter: Counter) -> None:
    quota = None
    while quota is None or quota.allowed:
        quota = await counter.hit("5/second", "key", "app")
    assert quota.remaining == 0
    assert quota.reset_seconds in {1, 2}
    time.sleep(quota.reset_seconds)
    assert (await counter.hit("5/second", "key", "app")).allowed


async def test_one_that_is_killed_is_done_without_and_used_again(
    redis: RedisServer, counter: Counter, clock: Clock, log: pytest.LogCaptureFixture
) -> None:
    assert [await left(counter), await left(counter)] == [8, 7]
    redis.kill()
    assert [await left(counter) for _ in range(5)] == [8, 7, 6, 5, 4], "counted in this process"
    clock.now += 10
    assert await left(counter) == 3
    assert [record.levelno for record in said(log)] == [logging.WARNING], "said once"
    assert "does not answer" in log.text

    redis.start()
    assert await left(counter) == 2, "it is not asked at every request"
    clock.now += 10
    assert await left(counter) == 8, "what it has counted is gone"
    assert len(said(log)) == 2
    assert "answers again" in log.text
    assert await left(counter) == 7
    assert PASSWORD not in log.text


async def test_one_that_hangs_costs_one_request_a_moment(
    redis: RedisServer,
    counter: Counter,
    clock: Clock,
    log: pytest.LogCaptureFixture,
    patience: Callable[[float], None],
) -> None:
    assert await left(counter) == 8
    redis.hang()
    patience(0.1)
    assert await left(counter) == 8
    patience(3600)  # nobody waits any more
    assert [await left(counter) for _ in range(4)] == [7, 6, 5, 4]
    redis.go_on()
    clock.now += 10
    assert await left(counter) in {6, 7}, "the request that was given up may have been counted"
    assert len(said(log)) == 2


async def test_one_that_refuses_the_password_is_as_good_as_away(
    redis: RedisServer, clock: Clock, log: pytest.LogCaptureFixture
) -> None:
    counter = Counter(redis.url.replace(PASSWORD, "another-password"), clock.time)
    assert await left(counter) == 8
    assert len(said(log)) == 1
    assert "password" not in log.text
    await counter.close()


@pytest.mark.parametrize("host", ["x" * 70 + ".invalid", "[::1]"])
async def test_one_whose_name_cannot_be_looked_up_is_as_good_as_away(host: str, log: pytest.LogCaptureFixture) -> None:
    counter = Counter(f"redis://:{PASSWORD}@{host}:{free_port()}")
    assert [await left(counter), await left(counter)] == [8, 7]
    assert len(said(log)) == 1
    assert PASSWORD not in log.text
    await counter.close()


async def test_a_limit_holds_in_the_service_while_there_is_no_redis_at_all(
    settings: Settings, log: pytest.LogCaptureFixture
) -> None:
    security = {
        "api_keys": [key_entry("app", "app", "read")],
        "rate_limit": "2/day",
        "rate_limit_url": f"redis://:{PASSWORD}@127.0.0.1:{free_port()}",
    }
    with serving(settings, security=security) as client:
        for _ in range(2):
            assert client.get("/api/models", headers=bearer("app")).status_code == 200
        refused(client.get("/api/models", headers=bearer("app")), 429, "RATE_LIMIT_EXCEEDED")


def test_the_service_closes_its_connections(settings: Settings, redis: RedisServer) -> None:
    security = {
        "api_keys": [key_entry("app", "app", "read")],
        "rate_limit": "2/day",
        "rate_limit_url": redis.url,
    }
    for left in ("1", "0"):  # a restart changes nothing
        with serving(settings, security=security) as client:
            answer = client.get("/api/models", headers=bearer("app"))
            assert answer.headers["RateLimit-Remaining"] == left


def test_an_address_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1/0?socket_timeout=soon"
    server = Server(tmp_path, environment={"HOMELAB_AI__SECURITY__RATE_LIMIT_URL": url})
    assert server.wait_until_ended() != 0
    assert "security.rate_limit_url cannot be used" in server.stderr
    assert "Traceback" not in server.stderr
    assert PASSWORD not in server.stderr
