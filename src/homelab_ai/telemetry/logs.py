"""Two logs: one line for each request on standard output, everything else on standard error.

An access line is `timestamp | request_id | client_ip | endpoint | status | duration_ms | model`, and nothing that a
client sends can add a line or a column to it. Application log lines name the request they belong to.
"""

import logging
import re
import select
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import ClassVar, TextIO

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""Id of the request that this task works for."""

log = logging.getLogger(__name__)
access_log = logging.getLogger("homelab_ai.access")

_SURE_TO_FIT = select.PIPE_BUF // 4  # characters, of up to four bytes: what a pipe that takes anything takes whole
_FORGED = re.compile(r"[^\x21-\x7b\x7d-\x7e]")  # anything but visible ASCII; and no column separator


def configure() -> None:
    """Set up both logs, uvicorn's own lines included, and silence its access log. Safe to call twice."""
    for name in ("homelab_ai", "uvicorn"):
        _only_handler(logging.getLogger(name), _NeverBlocking(sys.stderr), _ApplicationFormatter())
    _only_handler(access_log, _NeverBlocking(sys.stdout), logging.Formatter("%(message)s"))
    # uvicorn would write a second line of its own for each request.
    server = logging.getLogger("uvicorn.access")
    server.handlers.clear()
    server.propagate = False


def log_access(*, request_id: str, client: str, endpoint: str, status: int, seconds: float, model: str) -> None:
    """Write the line of one request. `seconds` is from its first byte here to the last byte of the answer."""
    columns = (request_id, client, endpoint, str(status), f"{seconds * 1000:.1f}", model)
    access_log.info(" | ".join([_now(), *(_FORGED.sub("?", column)[:200] for column in columns)]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _only_handler(logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter) -> None:
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _NeverBlocking(logging.StreamHandler[TextIO]):
    """Drops what nobody reads: a full pipe or a stopped terminal must not stop the event loop, which writes here."""

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless that would have to wait."""
        lines = self.format(record) + self.terminator
        try:
            for start in range(0, len(lines), _SURE_TO_FIT):
                if not _takes_more(self.stream):
                    self._lost += 1
                    return
                self.stream.write(lines[start : start + _SURE_TO_FIT])
                self.flush()
        except (OSError, ValueError):  # the reader has gone, or the stream is closed
            self._lost += 1
        else:
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


class _ApplicationFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format: ClassVar[str | None] = "%s.%03dZ"  # type: ignore[misc]

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = current_request_id.get()
        # Whatever a traceback or a library says stands further in than any line of ours.
        return super().format(record).rstrip().replace("\n", "\n    ")
