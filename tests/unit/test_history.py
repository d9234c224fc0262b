"""The last ten minutes: what happened within each step, and what there was at its end."""

from datetime import UTC, datetime

from homelab_ai.telemetry.history import History, Seen
from support.clock import Clock


class Service:
    """Counts that go on as a test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.now = Seen(100, 10, 0, 0)  # it has been at work before
        self.history = History(lambda: self.now, self.clock.call_later)

    def figures(self) -> dict[str, list[int]]:
        return {name: told for name, told in self.history.told().items() if name not in {"step_seconds", "end"}}


def test_a_service_that_has_just_started_has_none() -> None:
    service = Service()
    service.clock.advance(4.9)
    assert service.figures() == {"requests": [], "errors": [], "queue": [], "memory_bytes": []}
    assert service.history.told()["step_seconds"] == 5


def test_each_step_has_what_came_in_it_and_what_was_there_at_its_end() -> None:
    service = Service()
    service.now = Seen(107, 12, 3, 1000)
    service.clock.advance(5)
    service.clock.advance(5)
    service.now = Seen(108, 12, 0, 500)
    service.clock.advance(5)
    assert service.figures() == {
        "requests": [7, 0, 1],
        "errors": [2, 0, 0],
        "queue": [3, 3, 0],
        "memory_bytes": [1000, 1000, 500],
    }
    assert abs((datetime.now(UTC) - service.history.told()["end"]).total_seconds()) < 60


def test_it_goes_back_ten_minutes_and_no_further() -> None:
    service = Service()
    for number in range(1, 201):
        service.now = Seen(100 + number * (number + 1) // 2, 10, number, 0)
        service.clock.advance(5)
    figures = service.figures()
    assert figures["requests"] == figures["queue"] == list(range(81, 201))


def test_it_ends_with_the_service() -> None:
    service = Service()
    service.history.close()
    service.clock.advance(60)
    assert service.figures()["queue"] == []
