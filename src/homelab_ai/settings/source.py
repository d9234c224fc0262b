"""Where the settings came from, so that they can be read again, and what then takes effect without a restart."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from homelab_ai.settings.loading import ConfigurationError, load_settings, path_of
from homelab_ai.settings.tree import Settings

LIVE = (
    "security",
    "models",
    "limits",
    "crawl",
    "server.trusted_proxies",
    "server.allowed_hosts",
    "resources.max_gpu_memory_gb",
    "resources.max_memory_gb",
    "resources.max_queued_requests",
    "resources.model_keep_alive_minutes",
)
"""What takes effect when the file changes. Everything else does with the next start."""

_LARGEST = 1024 * 1024
"""Bytes."""


class Signature(NamedTuple):
    """Of a file: differs where it may have changed."""

    inode: int
    modified_ns: int
    size: int
    """In bytes."""
    changed_ns: int
    """Later where somebody has been given the right to read it, too."""
    mode: int


class Source:
    """A configuration file, there or not, and the environment."""

    def __init__(self, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> None:
        """`path` as `load_settings` takes it."""
        self._path = path
        self._environ = environ
        self.loaded: Signature | None = None
        """That of the file from which settings were last read, if there was one."""
        self._is_read_again = False

    def load(self) -> Settings:
        """Return the settings as they are now. Raises `ConfigurationError`.

        A file that has gone is an error, although one that was never there is none: without its keys and its allowlist
        the service would be another.
        """
        found = self.signature()  # before it is read: what changes meanwhile is then seen as a change
        if self._is_read_again and found:
            self._check_is_whole(found)
        settings = load_settings(self._path, self._environ)
        if (self.loaded or found) and not self.signature():
            raise ConfigurationError([f"{path_of(self._path, self._environ)}: the file has gone"])
        self.loaded, self._is_read_again = found, True
        return settings

    def _check_is_whole(self, found: Signature) -> None:
        """Raise `ConfigurationError` for what would be another service, or would take for ever to be read."""
        name = path_of(self._path, self._environ)
        if not (stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode)):  # of a folder, the reader says more
            raise ConfigurationError([f"{name}: is no regular file, so it is read at the start only"])
        if found.size > _LARGEST:
            raise ConfigurationError([f"{name}: has {found.size} bytes, and no configuration has more than {_LARGEST}"])
        if not found.size and self.loaded and self.loaded.size:  # a disk that is full leaves such files behind
            raise ConfigurationError([f"{name}: is empty now; write {{}} into it if that is what you mean"])

    def signature(self) -> Signature | None:
        """Tell, without reading it, whether the file may be another."""
        try:
            found = path_of(self._path, self._environ).stat()
        except OSError:
            return None
        return Signature(found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns, found.st_mode)


def is_live(name: str) -> bool:
    """Whether a setting, by its name as in messages, takes effect without a restart."""
    return any(name == live or name.startswith(f"{live}.") for live in LIVE)


def differences(before: BaseModel, after: BaseModel, prefix: str = "") -> Iterator[str]:
    """Name the settings that are not the same, such as ``security.ip_allowlist``. A list differs as a whole."""
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}"
