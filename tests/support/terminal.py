"""A command on a terminal of its own, as a person runs it."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from types import TracebackType
from typing import Self

from support.server import wait_for

_ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COMMAND = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C can be typed
from homelab_ai.cli import main
main()
"""


class Terminal:
    """`homelab-ai ARGUMENTS`, seen and typed at."""

    def __init__(self, *arguments: str, environment: dict[str, str], columns: int = 120) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("HOMELAB_AI", "COLUMNS"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            env=inherited | {"TERM": "xterm-256color"} | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        os.close(self._ours)

    @property
    def seen(self) -> str:
        """All that was shown so far, without colours and the moving of the cursor."""
        return _ORDERS.sub("", self._seen.decode(errors="replace")).replace("\r", "\n")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, seconds: float = 30) -> None:
        try:
            wait_for(lambda: text in self.seen, seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {self.seen!r}") from None

    def ended(self, seconds: float = 60) -> int:
        """Wait for its end, and return its exit status."""
        status = self.process.wait(seconds)
        self._reader.join(10)
        return status

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux says so that nobody holds the other end any more
            while some := os.read(self._ours, 65536):
                self._seen += some
