"""One file of a download: what the hub announces of it, and the part of it that has come so far.

Knows disks, locks and digests, and nothing of the hub; `models.files.hub` uses it.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Some network file systems have none. Two processes may then spoil a file between them, which is found out."""
_LOCK_RETRY_SECONDS = 0.2
_SHA256, _GIT_BLOB = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


class TooLongError(Exception):
    """More has come than the hub announced."""


@dataclass(frozen=True)
class Blob:
    """A file as the hub announces it. Raises `ValueError` where that cannot be, or would lead to another folder."""

    path: str
    """Where it is in the repository."""
    size: int
    etag: str
    """Its SHA-256 if it lies in LFS, else the name of its git blob; also its name among the cache's blobs."""
    in_lfs: bool

    def __post_init__(self) -> None:
        path, digest = PurePosixPath(self.path), _SHA256 if self.in_lfs else _GIT_BLOB
        if self.size < 0 or not digest.fullmatch(self.etag) or path.is_absolute() or ".." in path.parts:
            raise ValueError("a file that cannot be")

    def is_in(self, file: io.FileIO) -> bool:
        """Whether exactly this is the content of the file."""
        if size_of(file) != self.size:
            return False
        file.seek(0)
        if self.in_lfs:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.etag
        git_blob = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: git_blob).hexdigest() == self.etag


class Part:
    """A file as a download writes it: what has come is on the disk at once, is told, and has an end.

    `arrived` is told how much there is. `write` raises `TooLongError` beyond `size`.
    """

    def __init__(self, file: io.FileIO, size: int, arrived: Callable[[int], None]) -> None:
        self._file = file
        self._size = size
        self._arrived = arrived
        self.seek, self.tell, self.truncate = file.seek, file.tell, file.truncate

    def write(self, data: bytes) -> int:
        """Write all of it. Raises `OSError` when the disk is full: a raw file would write less and say nothing."""
        if self._file.tell() + len(data) > self._size:
            raise TooLongError
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._arrived(self._file.tell())
        return len(data)


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[int], None]) -> Iterator[io.FileIO | None]:
    """Open the file for reading and for writing at its end, once no other process has it open so.

    `waiting` is told how large the other process has made it. Yields None when that one has renamed or removed it.
    """
    with path.open("a+b", buffering=0) as file:
        while not _lock(file):
            waiting(size_of(file))
            time.sleep(_LOCK_RETRY_SECONDS)
        yield file if _is_at(file, path) else None


def size_of(file: io.FileIO) -> int:
    """How large an open file is."""
    return os.fstat(file.fileno()).st_size


def size_at(path: Path) -> int | None:
    """How large the file is, None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock(file: io.FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(file: io.FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
