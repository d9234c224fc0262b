"""The texts that are to be embedded, of lines, whole files, or a field of JSON Lines: one by one, never all at once.

A text that cannot be read ends everything, with its place: a vector that is missing, or of something else, would shift
all that come after it.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from homelab_ai.cli.ending import Stop
from homelab_ai.cli.writing import shown

STDIN = Path("-")

_LONGEST_BYTES = 8 * 1024 * 1024
"""No model reads as much of one text; what is longer is no line of a text."""
_TEXTS_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 500_000
"""Of one request, so that the service can answer it in good time."""
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Text:
    """One text."""

    text: str
    place: str
    """Where it stands, such as `notes.txt:3`."""
    size: int
    """Bytes that have been read for it."""
    file: str | None = None
    """Its name, where the text is all of a file."""
    record: dict[str, Any] | None = None
    """The JSON object that it is a field of."""

    @property
    def fields(self) -> dict[str, Any]:
        """What tells whose the vector is."""
        if self.record is not None:
            return self.record
        return {"text": self.text} if self.file is None else {"file": self.file}

    @property
    def columns(self) -> dict[str, str]:
        """The same in strings, for tables: another type might come in a field a million lines later."""
        if self.record is not None:
            return {"text": self.text, "record": orjson.dumps(self.record).decode()}
        return self.fields


def given(texts: Sequence[str]) -> Iterator[Text]:
    """Yield the texts that stand on the command line."""
    for number, text in enumerate(texts, 1):
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise Stop(f"--text {number}: it is not UTF-8", 2) from None
        yield Text(text, f"--text {number}", size)


def of_lines(files: Sequence[Path]) -> Iterator[Text]:
    """Yield each line as a text. An empty one is a text, too, so that vectors and lines have the same numbers."""
    for line, place in _lines(files):
        text = _decoded(line, place).removesuffix("\n").removesuffix("\r")
        yield Text(text, place, len(line))


def of_field(files: Sequence[Path], field: str) -> Iterator[Text]:
    """Yield what stands in that field of each line of JSON. Lines of white space hold nothing."""
    for line, place in _lines(files):
        if not line.strip():
            continue
        _decoded(line, place)
        try:
            record = orjson.loads(line.removeprefix(_BYTE_ORDER_MARK.encode()))
        except orjson.JSONDecodeError as error:
            raise Stop(f"{place}: it is no JSON ({error.msg}, column {error.colno})") from None
        text = record.get(field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise Stop(f"{place}: it is no JSON object with a string in {field!r}")
        yield Text(text, place, len(line), record=record)


def of_whole(files: Sequence[Path]) -> Iterator[Text]:
    """Yield each file as one text."""
    for path in files:
        with _opened(path) as file:
            data = file.read(_LONGEST_BYTES + 1)
        text = _decoded(data, _name(path)).replace("\r\n", "\n")
        yield Text(text, _name(path), len(data), file=_name(path))


def batches(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield the texts of one request each."""
    batch: list[Text] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == _TEXTS_AT_ONCE or characters + len(text.text) > _CHARACTERS_AT_ONCE):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text.text)
    if batch:
        yield batch


def total_bytes(files: Sequence[Path]) -> int | None:
    """Return how much there is to read; None where that shows only when it ends."""
    try:
        about = [os.fstat(sys.stdin.fileno()) if path == STDIN else path.stat() for path in files]
    except (OSError, ValueError):
        return None
    return sum(each.st_size for each in about) if all(stat.S_ISREG(each.st_mode) for each in about) else None


def _lines(files: Sequence[Path]) -> Iterator[tuple[bytes, str]]:
    for path in files:
        name, number = _name(path), 0
        with _opened(path) as file:
            while line := file.readline(_LONGEST_BYTES + 1):
                number += 1
                yield line, f"{name}:{number}"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if path == STDIN:
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Stop(f"{_name(path)} cannot be read: {error.strerror}") from error


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else shown(path)


def _decoded(data: bytes, place: str) -> str:
    if len(data) > _LONGEST_BYTES:
        raise Stop(f"{place}: it is longer than {_LONGEST_BYTES // 1024 // 1024} MB, which is no text to embed at once")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Stop(f"{place}: it is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start})") from None
    if "\0" in text:
        raise Stop(f"{place}: it holds a NUL byte, so it is no text (UTF-16 has to become UTF-8 first)")
    return text.removeprefix(_BYTE_ORDER_MARK)
