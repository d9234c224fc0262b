"""Requests as they are counted: by how they ended, and how many there were in the last minute."""

from datetime import UTC, datetime

from homelab_ai.telemetry.requests import ErrorSeen, Requests, Totals
from support.clock import Clock


def end(requests: Requests, status: int = 200, times: int = 1) -> None:
    for _ in range(times):
        requests.begin()
        requests.end(status, None)


def test_requests_are_counted_by_how_they_ended() -> None:
    requests = Requests(Clock().time)
    for status in (200, 201, 206, 304, 400, 404, 499, 500, 504):
        end(requests, status)
    assert requests.totals == Totals(total=9, succeeded=4, refused=2, failed=2, gone=1, last_minute=9)
    assert requests.active == 0


def test_the_last_minute_moves_on() -> None:
    clock = Clock()
    requests = Requests(clock.time)
    assert requests.totals.last_minute == 0
    for second in range(200):
        end(requests, times=2)
        assert requests.totals.last_minute == 2 * min(second + 1, 60)
        clock.advance(1)
    assert requests.totals.last_minute == 118
    clock.advance(58)
    assert requests.totals.last_minute == 2
    clock.advance(1)
    assert requests.totals.last_minute == 0
    assert requests.totals.total == 400


def test_errors_are_kept_in_their_order() -> None:
    requests = Requests(Clock().time)
    seen = [ErrorSeen(datetime.now(UTC), 500, "INTERNAL_ERROR", "other", f"{number}") for number in range(30)]
    for error in seen:
        requests.begin()
        requests.end(error.status, error)
    assert list(requests.errors) == seen[-10:]
