"""Two logs: one line for each request on standard output, everything else on standard error.

An access line is `timestamp | request_id | client_ip | endpoint | status | duration_ms | model`, and nothing that a
client sends can add a line or a column to it. Application log lines name the request they belong to. Either is text or,
for programs that collect logs, a JSON object in each line.

Of an exception the log holds where it happened, and not what it says, which may quote what a user sent.
"""

import json
import logging
import re
import select
import sqlite3
import sys
import time
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TextIO

from homelab_ai.telemetry.tail import Entry, Tail

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""Id of the request that this task works for."""

log = logging.getLogger(__name__)
access_log = logging.getLogger("homelab_ai.access")

_SURE_TO_FIT = select.PIPE_BUF // 4  # characters, of up to four bytes: what a pipe that takes anything takes whole
_FORGED = re.compile(r"[^\x21-\x7b\x7d-\x7e]")  # anything but visible ASCII; and no column separator
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # what a terminal obeys
_LONGEST_KEPT = 8000  # characters of one entry of the tail: a traceback has some thousand
_FILES_OF_THE_PAGE = "/admin/"
_LEAST_FAILURE = 400
_SPEAKS_FOR_THE_SYSTEM = (OSError, sqlite3.Error)

Format = Literal["text", "json"]


def configure(form: Format = "text", level: str = "info") -> Tail:
    """Set up both logs, uvicorn's own lines included, and silence its access log. Safe to call twice.

    `level` is that of the application log. The access log has all requests, always. Returns what keeps the last lines.
    """
    json_lines, tail = form == "json", Tail()
    application = _ApplicationJson() if json_lines else _ApplicationText()
    keeping = tail.handler(_kept_of_application)
    for name in ("homelab_ai", "uvicorn", "asyncio", "opentelemetry"):
        handler = _NeverBlocking(sys.stderr)
        handler.setFormatter(application)
        _only_handlers(logging.getLogger(name), handler, keeping, level=level.upper())
    handler = _NeverBlocking(sys.stdout)
    handler.setFormatter(_AccessJson() if json_lines else _AccessText())
    keeping = tail.handler(_kept_of_access)
    keeping.addFilter(_is_worth_keeping)
    _only_handlers(access_log, handler, keeping, level="INFO")
    # The access log has a line for what is no HTTP, and whose it was: a stranger is not to fill this log as well.
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # uvicorn would write a second line of its own for each request.
    server = logging.getLogger("uvicorn.access")
    server.handlers.clear()
    server.propagate = False
    return tail


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Invalid HTTP request")


def _is_worth_keeping(record: logging.LogRecord) -> bool:
    # To open the page takes dozens of its files: of what was asked before, the tail would have nothing left to show.
    columns = vars(record)["columns"]
    return not (columns["endpoint"].startswith(_FILES_OF_THE_PAGE) and columns["status"] < _LEAST_FAILURE)


def log_access(*, request_id: str, client: str, endpoint: str, status: int, seconds: float, model: str) -> None:
    """Write the line of one request. `seconds` is from its first byte here to the last byte of the answer."""
    columns: dict[str, str | float] = {
        "timestamp": _now(),
        "request_id": _visible(request_id),
        "client_ip": _visible(client),
        "endpoint": _visible(endpoint),
        "status": status,
        "duration_ms": round(float(seconds) * 1000, 1),
        "model": _visible(model),
    }
    access_log.info("request", extra={"columns": columns})


def _visible(column: str) -> str:
    return _FORGED.sub("?", column[:200])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _only_handlers(logger: logging.Logger, *handlers: logging.Handler, level: str) -> None:
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = False


class _NeverBlocking(logging.StreamHandler[TextIO]):
    """Drops what nobody reads: a full pipe or a stopped terminal must not stop the event loop, which writes here."""

    _lost = 0
    _torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless that would have to wait."""
        lines = self.terminator * self._torn + self.format(record) + self.terminator
        try:
            for start in range(0, len(lines), _SURE_TO_FIT):
                if not _takes_more(self.stream):
                    self._lost += 1
                    self._torn = self._torn or start > 0  # what comes next must not stand in the same line
                    return
                self.stream.write(lines[start : start + _SURE_TO_FIT])
                self.flush()
        except (OSError, ValueError):  # the reader has gone, or the stream is closed
            self._lost += 1
        else:
            self._torn = False
            if self._lost:
                lost, self._lost = self._lost, 0
                log.warning("%d lines of %s are lost: nobody read them", lost, getattr(self.stream, "name", "a log"))


def _takes_more(stream: TextIO) -> bool:
    """Tell whether the stream takes `_SURE_TO_FIT` characters now."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except OSError:  # not a file of the system: a test's, in memory
        return True
    return bool(poll.poll(0))


class _AccessText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        columns: dict[str, str | float] = vars(record)["columns"]
        return " | ".join(map(str, columns.values()))


class _AccessJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(vars(record)["columns"])


class _Application(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format: ClassVar[str | None] = "%s.%03dZ"  # type: ignore[misc]

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return "\n".join(_story(ei[1], set())) if ei and ei[1] else ""

    @staticmethod
    def message_of(record: logging.LogRecord) -> str:
        """What there is to say, without the exception."""
        message = record.getMessage()
        # asyncio goes on with the arguments and results of what failed.
        return message.partition("\n")[0] if record.name == "asyncio" else message

    def text_of(self, record: logging.LogRecord) -> str:
        """All there is to say, in one piece that moves no terminal."""
        parts = [self.message_of(record), self.formatException(record.exc_info)]
        return _UNSEEN.sub("?", "\n".join(filter(None, parts)).rstrip())


class _ApplicationText(_Application):
    def format(self, record: logging.LogRecord) -> str:
        start = f"{self.formatTime(record)} {record.levelname} {record.name} [{current_request_id.get()}]"
        # Whatever a traceback or a library says stands further in than any line of ours.
        return f"{start} {self.text_of(record)}".rstrip().replace("\n", "\n    ")


class _ApplicationJson(_Application):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "timestamp": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": current_request_id.get(),
            "message": self.message_of(record).rstrip(),
        }
        if exception := self.formatException(record.exc_info):
            entry["exception"] = exception
        return json.dumps(entry)


_KEPT = _Application()


def _kept_of_application(record: logging.LogRecord) -> Entry:
    message = _KEPT.text_of(record)
    return {
        "time": _KEPT.formatTime(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message if len(message) <= _LONGEST_KEPT else f"{message[:_LONGEST_KEPT]} ...",
        "request_id": current_request_id.get(),
    }


def _kept_of_access(record: logging.LogRecord) -> Entry:
    columns = dict(vars(record)["columns"])
    return {"time": columns.pop("timestamp"), "access": True, "client": columns.pop("client_ip"), **columns}


def _story(error: BaseException, told: set[int]) -> list[str]:
    """What a traceback tells, with what led to it first, but for the texts of the errors."""
    if id(error) in told:
        return []
    told.add(id(error))
    lines: list[str] = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before and (led := _story(before, told)):
        lines += [*led, "which led to:"]
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        lines += [*_story(inner, told), "which is one of:"]
    lines += ["Traceback (most recent call last):", *"".join(traceback.format_tb(error.__traceback__)).splitlines()]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return [*lines, f"{name}: {error}" if isinstance(error, _SPEAKS_FOR_THE_SYSTEM) else name]
