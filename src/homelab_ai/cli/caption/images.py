"""The images that are to be described: files, what folders hold, addresses, and standard input."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from homelab_ai.cli.writing import shown

STDIN = "-"

_ENDINGS = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif"}
"""Of the files in a folder. What is named by itself is taken whatever its name."""
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_NOT_LOOKED_INTO = (".", "@")
"""How the names begin of what no person has put there: thumbnails of a NAS, the other halves of macOS' files."""


@dataclass(frozen=True)
class Source:
    """Where an image is."""

    name: str
    """As it is shown."""
    path: Path | None = None
    """None for an address, and for standard input."""

    @property
    def is_address(self) -> bool:
        """Whether the service fetches it."""
        return self.path is None and self.name != STDIN

    def sidecar(self, ending: str) -> Path | None:
        """Return the file beside it that its caption belongs in; None where it is no file."""
        return self.path and self.path.with_name(f"{self.path.name}.{ending}")


@dataclass(frozen=True)
class Unread:
    """A file or folder that cannot be looked at."""

    name: str
    reason: str


def find(names: Iterable[str], *, recursive: bool) -> Iterator[Source | Unread]:
    """Yield what these names stand for, in their order; the files of a folder by their names."""
    for name in names:
        if name == STDIN or _ADDRESS.match(name):
            yield Source(name)
        elif Path(name).is_dir():
            yield from _in_folder(Path(name), recursive=recursive)
        else:
            yield Source(shown(name), Path(name))


def _in_folder(folder: Path, *, recursive: bool) -> Iterator[Source | Unread]:
    unread: list[Unread] = []

    def note(error: OSError) -> None:
        unread.append(Unread(shown(error.filename), error.strerror or "it cannot be read"))

    for path, folders, files in os.walk(folder, onerror=note):
        for name in sorted(files):
            if not name.startswith(_NOT_LOOKED_INTO) and name.rpartition(".")[2].lower() in _ENDINGS:
                yield Source(shown(Path(path) / name), Path(path) / name)
        folders[:] = sorted(each for each in folders if not each.startswith(_NOT_LOOKED_INTO)) if recursive else []
    yield from unread
