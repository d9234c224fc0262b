"""How a command that does much ends: with a sentence and an exit status, whatever comes in between.

Exit status: those of `cli.running`; and as the shell has it for every program, 130 Ctrl-C, 141 nobody reads any more,
143 SIGTERM.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer

from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.running import INTERRUPTED, refused


class Stop(Exception):
    """The command cannot go on. The text is for the person at the keyboard."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turn what stands in the way into a sentence and an exit status. What is half done is put away before."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `| head` has what it wants
        _forget_output()
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except Stop as error:
        _say(str(error))
        raise typer.Exit(error.exit_status) from None
    except ServiceUnavailableError as error:
        raise refused(error) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def output_failed(error: OSError) -> NoReturn:
    """End the program, whose output is on a disk that is full."""
    _forget_output()
    _say(f"cannot write: {error.strerror}")
    sys.exit(1)


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _forget_output() -> None:
    """Have the interpreter not try once more, when it ends, to write what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
