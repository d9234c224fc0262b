"""The two logs: the access line that nothing can forge, and application lines that name their request."""

import logging
import re
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
    loggers = [logging.getLogger(name) for name in ("homelab_ai", "homelab_ai.access", "uvicorn.access")]
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
