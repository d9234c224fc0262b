"""What commands write: lines on standard output, and files that are there as a whole or not at all."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from homelab_ai.cli.ending import Stop

_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\t"), ord("\n")})


def shown(path: str | Path) -> str:
    """Return a path as text, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return a text without what a terminal would take for orders: pages and file names are written by strangers."""
    return text.translate(_CONTROLS)


def put(text: str) -> None:
    """Write a text on standard output, at once: who reads a pipe gets what there is."""
    if sys.stdout.isatty():
        text = printable(text)
    put_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def put_record(record: Any) -> None:
    """Write a line of JSON on standard output."""
    put_bytes(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def put_bytes(data: bytes) -> None:
    """Write what is text already."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def check_free(path: Path, *, force: bool) -> None:
    """Raise `Stop` where a file may not be written under this name."""
    if path.exists() and not path.is_file():  # a device, or a folder: nothing to put another in the place of
        raise Stop(f"{shown(path)} is no file")
    if path.exists() and not force:
        raise Stop(f"{shown(path)} is there already; --force writes it anew")
    if not path.parent.is_dir():
        raise Stop(f"there is no folder {shown(path.parent)}")


@contextlib.contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is whole. Raises `Stop`."""
    check_free(path, force=force)
    path = path.resolve()  # what a link leads to is what is written, not the link
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Stop(f"{shown(path)} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
