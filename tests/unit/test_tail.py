"""The tail of the logs: what they were given, the last of it, and not a word more than they tell."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from homelab_ai.telemetry import logs
from homelab_ai.telemetry.tail import Tail

ROOM = logging.getLogger("homelab_ai.room")
REQUEST: dict[str, Any] = {
    "request_id": "r-1",
    "client": "192.168.1.7",
    "endpoint": "/api/embed",
    "status": 200,
    "seconds": 0.0123,
    "model": "minilm",
}


@pytest.fixture
def tail() -> Iterator[Tail]:
    names = ("homelab_ai", "homelab_ai.access", "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate, logger.filters[:]) for logger in loggers]
    yield logs.configure()
    for logger, (handlers, level, propagate, filters) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate, logger.filters[:] = handlers, propagate, filters
        logger.setLevel(level)


def messages(tail: Tail, last: int | None = None) -> list[str]:
    return [str(entry.get("message", entry["request_id"])) for entry in tail.since(last).entries]


def test_an_entry_of_each_log_has_the_fields_of_its_line(tail: Tail) -> None:
    token = logs.current_request_id.set("abc-1")
    ROOM.warning("a %s", "thing\x1b[2J")
    logs.current_request_id.reset(token)
    logs.log_access(**{**REQUEST, "endpoint": "/a|b\n"})
    said, asked = tail.since().entries
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "warning",
        "logger": "homelab_ai.room",
        "message": "a thing?[2J",
        "request_id": "abc-1",
    }
    assert asked.pop("time").endswith("Z")
    assert asked == {
        "access": True,
        "request_id": "r-1",
        "client": "192.168.1.7",
        "endpoint": "/a?b?",
        "status": 200,
        "duration_ms": 12.3,
        "model": "minilm",
    }


@pytest.mark.usefixtures("tail")
def test_what_the_logs_keep_to_themselves_it_does_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    tail = logs.configure()  # writes to what is captured now
    try:
        int("a secret text of a user")
    except ValueError:
        ROOM.exception("it failed")
    ROOM.debug("too much to say")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task ... 'secret'>")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.access").info("a line that is there already")
    failed, task = messages(tail)
    assert failed.startswith("it failed\nTraceback")
    assert failed.endswith("\nValueError"), "its text may quote what was sent"
    assert task == "Task exception was never retrieved"
    told = capsys.readouterr().err.replace("\n    ", "\n")
    assert failed in told
    assert task in told


def test_one_log_does_not_push_out_the_other(tail: Tail) -> None:
    ROOM.warning("the one that matters")
    for number in range(500):
        logs.log_access(**{**REQUEST, "request_id": f"r-{number}"})
    assert messages(tail) == ["the one that matters", *(f"r-{number}" for number in range(400, 500))]


def test_to_open_the_page_pushes_out_nothing(tail: Tail) -> None:
    logs.log_access(**REQUEST)
    for number in range(200):
        logs.log_access(**{**REQUEST, "request_id": f"p-{number}", "endpoint": "/admin/{name:path}", "status": 304})
    logs.log_access(**{**REQUEST, "request_id": "r-2", "endpoint": "/admin/{name:path}", "status": 404})
    assert messages(tail) == ["r-1", "r-2"]


def test_whoever_comes_again_has_what_is_new_in_its_order(tail: Tail) -> None:
    ROOM.info("one")
    new = tail.since()
    assert (len(new.entries), new.lost) == (1, 0)
    assert tail.since(new.last) == ([], 0, new.last)
    for number in range(3):
        ROOM.info("said %d", number)
        logs.log_access(**{**REQUEST, "request_id": f"r-{number}"})
    assert messages(tail, new.last) == ["said 0", "r-0", "said 1", "r-1", "said 2", "r-2"]


def test_who_comes_too_late_is_told_how_much_is_gone(tail: Tail) -> None:
    nothing_yet = tail.since().last
    for number in range(150):
        ROOM.info("before %d", number)
    assert tail.since().lost == 0, "of what was there before anybody looked, nothing is lost"
    assert tail.since(nothing_yet).lost == 50
    last = tail.since().last
    for number in range(130):
        ROOM.info("meanwhile %d", number)
    new = tail.since(last)
    assert (len(new.entries), new.lost, new.last) == (100, 30, last + 130)


def test_a_long_entry_is_cut(tail: Tail) -> None:
    ROOM.info("x" * 100_000)
    assert len(messages(tail)[0]) < 10_000


def test_many_threads_may_speak_at_once(tail: Tail) -> None:
    def speak() -> None:
        for _ in range(50):
            ROOM.info("said")

    threads = [threading.Thread(target=speak) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new = tail.since()
    assert (len(new.entries), new.last) == (100, 400)
