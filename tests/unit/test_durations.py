"""How long the last requests of a model took."""

import random

from homelab_ai.telemetry.durations import Durations


def test_it_is_what_nineteen_in_twenty_took_at_most() -> None:
    durations = Durations()
    assert durations.p95("a") is None
    durations.add("a", 3)
    assert durations.p95("a") == 3
    durations.add("a", 1)
    assert durations.p95("a") == 3
    numbers = [float(number) for number in range(1, 101)]
    random.Random(7).shuffle(numbers)
    for number in numbers:
        durations.add("b", number)
    assert durations.p95("b") == 95
    assert durations.p95("a") == 3


def test_only_the_last_hundred_count() -> None:
    durations = Durations()
    for seconds in [60.0] * 50 + [0.1] * 94:
        durations.add("a", seconds)
    assert durations.p95("a") == 60
    durations.add("a", 0.1)
    assert durations.p95("a") == 0.1


def test_a_model_that_is_gone_leaves_nothing() -> None:
    durations = Durations()
    durations.add("a", 1)
    assert durations.p95("a") == 1
    durations.forget("a")
    assert durations.p95("a") is None
