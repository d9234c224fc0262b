"""The two logs: the access line that nothing can forge, and application lines that name their request."""

import json
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from homelab_ai.telemetry import logs

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \| [!-{}~]{1,200} \| [!-{}~]{1,200} \| [!-{}~]{1,200} \| \d{3} \| "
    r"\d+\.\d \| [!-{}~]{1,200}"
)
REQUEST: dict[str, Any] = {
    "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
    "client": "2001:db8::7",
    "endpoint": "/api/models/{model_id:path}",
    "status": 200,
    "seconds": 0.0123,
    "model": "minilm",
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    names = ("homelab_ai", "homelab_ai.access", "uvicorn", "uvicorn.access", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


Captured = pytest.CaptureFixture[str]


def test_a_request_is_one_line_on_standard_output(capsys: Captured) -> None:
    logs.configure()
    logs.log_access(**REQUEST)
    out, err = capsys.readouterr()
    assert err == ""
    assert LINE.fullmatch(out.removesuffix("\n"))
    assert out.split(" | ")[1:] == [
        REQUEST["request_id"],
        "2001:db8::7",
        "/api/models/{model_id:path}",
        "200",
        "12.3",
        "minilm\n",
    ]


def test_what_is_not_known_is_a_dash(capsys: Captured) -> None:
    logs.configure()
    logs.log_access(request_id="-", client="-", endpoint="/", status=499, seconds=0, model="-")
    assert capsys.readouterr().out.rstrip().split(" | ")[1:] == ["-", "-", "/", "499", "0.0", "-"]


FORGERIES = {
    "newline": "/a\n2030-01-01T00:00:00.000Z | id | 1.2.3.4 | /b | 200 | 1.0 | m",
    "return": "/a\r/b",
    "column": "/a | 1.2.3.4 | /b",
    "pipe": "|",
    "space": "/a b",
    "tab": "/a\tb",
    "line-separator": "/a\u2028b\u2029c\x85d\x0be\x0cf",
    "terminal": "/a\x1b[2J\x1b]0;owned\x07",
    "null": "/a\0b",
    "delete": "/a\x7f",
    "letters": "/zoë/日本",
    "surrogate": "/\udcff",
    "right-to-left": "/\u202egnp.exe",
    "endless": "/" + "a" * 100_000,
    "endless-newlines": "\n" * 100_000,
    "format": "%s%n{0}%(message)s",
}


@pytest.mark.parametrize("column", ["request_id", "client", "endpoint", "model"])
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_nothing_adds_a_line_or_a_column(capsys: Captured, column: str, forgery: str) -> None:
    logs.configure()
    logs.log_access(**{**REQUEST, column: forgery})
    out = capsys.readouterr().out
    assert out.endswith("\n")
    assert LINE.fullmatch(out[:-1])
    assert len(out.splitlines()) == 1


def test_configuring_twice_does_not_double_the_lines(capsys: Captured) -> None:
    logs.configure()
    logs.configure()
    logs.log_access(**REQUEST)
    logging.getLogger("homelab_ai.somewhere").warning("once")
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, 1)


APPLICATION = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z %s homelab_ai\.room \[%s\] %s\n"


def test_an_application_line_names_its_request(capsys: Captured) -> None:
    logs.configure()
    log = logging.getLogger("homelab_ai.room")
    log.debug("too much to say")
    log.info("started")
    token = logs.current_request_id.set("abc-1")
    log.warning("a %s", "thing")
    logs.current_request_id.reset(token)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(APPLICATION % ("INFO", "-", "started") + APPLICATION % ("WARNING", "abc-1", "a thing"), err)


def test_the_server_writes_no_access_line_of_its_own(capsys: Captured) -> None:
    logs.configure()
    logging.getLogger("uvicorn.access").info('127.0.0.1:1 - "GET / HTTP/1.1" 200')
    assert capsys.readouterr() == ("", "")


def test_a_request_in_json_has_the_same_fields_by_name(capsys: Captured) -> None:
    logs.configure("json", "error")
    logs.log_access(**{**REQUEST, "endpoint": '/a"b\n\u2028|'})
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert list(told) == ["timestamp", "request_id", "client_ip", "endpoint", "status", "duration_ms", "model"]
    assert (told["endpoint"], told["status"], told["duration_ms"]) == ('/a"b???', 200, 12.3)


def test_an_application_line_in_json(capsys: Captured) -> None:
    logs.configure("json")
    token = logs.current_request_id.set("abc-1")
    logging.getLogger("homelab_ai.room").warning("a %s", "thing\n\x1b[2J\u2028")
    logs.current_request_id.reset(token)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("timestamp"))
    assert told == {
        "level": "warning",
        "logger": "homelab_ai.room",
        "request_id": "abc-1",
        "message": "a thing\n\x1b[2J",
    }


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_that_of_the_application_log_alone(capsys: Captured, level: str, count: int) -> None:
    logs.configure("text", level)
    log = logging.getLogger("homelab_ai.room")
    for say in (log.debug, log.info, log.warning, log.error):
        say("something")
    logs.log_access(**REQUEST)
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, count)


def fail(form: logs.Format, error: BaseException, name: str = "homelab_ai.room") -> None:
    logs.configure(form)
    try:
        try:
            int("another secret")
        except ValueError:
            raise error  # noqa: B904 - its context is what the test is about
    except BaseException:
        logging.getLogger(name).exception("it failed")


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_an_exception_the_place_is_told_and_not_the_text(capsys: Captured, form: logs.Format) -> None:
    fail(form, ExceptionGroup("a secret", [KeyError("a secret"), UnicodeError("a secret")]))
    told = capsys.readouterr().err
    for name in ("ValueError", "ExceptionGroup", "KeyError", "UnicodeError", "it failed", "in fail"):
        assert name in told
    # The source of the line that raised it is told, which quotes what stands there; nothing else does.
    assert not re.search(r"Error: |Group: ", told)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")])
def test_what_the_system_says_is_told(capsys: Captured, error: Exception) -> None:
    fail("text", error)
    assert capsys.readouterr().err.endswith(f"{type(error).__name__}: {error}\n")


def test_nothing_in_the_application_log_moves_the_terminal(capsys: Captured) -> None:
    logs.configure()
    logging.getLogger("homelab_ai.room").info("a\x1b[2Jb\u2028c\u202ed\udc00\r\te")
    assert capsys.readouterr().err.endswith(" a?[2Jb?c?d??\te\n")


def test_asyncio_keeps_to_itself_what_its_tasks_were_given(capsys: Captured) -> None:
    logs.configure()
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task exception=KeyError('secret')>"
    )
    assert capsys.readouterr().err.endswith("Task exception was never retrieved\n")


def test_what_comes_after_a_line_that_was_torn_stands_in_a_line_of_its_own() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
        handler = logs._NeverBlocking(stream)
        long = logging.makeLogRecord({"msg": "x" * 3_000_000})  # more than any pipe holds
        handler.emit(long)
        handler.emit(long)
        assert reader.read()
        handler.emit(logging.makeLogRecord({"msg": "whole"}))
        assert reader.read() == b"\nwhole\n"
