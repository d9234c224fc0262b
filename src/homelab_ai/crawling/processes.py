"""The processes of a browser, which does not keep them in one process group: Playwright gives Chromium a session.

They are found by their parents, or by a folder in their environment, which only Linux tells (under /proc): elsewhere
none is found by it, and a browser is trusted to end its own.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

_PROC = Path("/proc")
_ROUNDS = 20
_ROUND_SECONDS = 0.05


def below(pid: int) -> list[int]:
    """The ids of the processes that this one has started, and of theirs."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def holding(folder: str) -> list[int]:
    """The ids of the processes whose environment names this folder, which nobody else does."""
    mark, found = os.fsencode(folder), []
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            if mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def end_below(pid: int) -> None:
    """End everything that this process, which is our own, has started, and take it from the kernel's table."""
    for _ in range(_ROUNDS):
        left = below(pid)
        if not left:
            return
        _kill(left)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(_ROUND_SECONDS / 10)


def end_holding(folder: str) -> None:
    """End everything whose environment names this folder."""
    for _ in range(_ROUNDS):
        left = [pid for pid in holding(folder) if pid != os.getpid()]
        if not left:
            return
        _kill(left)
        time.sleep(_ROUND_SECONDS)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
