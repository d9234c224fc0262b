"""Where the settings came from, so that they can be read again, and what then takes effect without a restart."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from homelab_ai.settings.loading import ConfigurationError, load_settings, path_of
from homelab_ai.settings.tree import Settings

LIVE = (
    "security",
    "models",
    "limits",
    "server.trusted_proxies",
    "server.allowed_hosts",
    "resources.max_gpu_memory_gb",
    "resources.max_memory_gb",
    "resources.max_queued_requests",
    "resources.model_keep_alive_minutes",
)
"""What takes effect when the file changes. Everything else does with the next start."""

Signature = tuple[int, int, int, int] | None
"""Differs where a file may have changed; `None` when there is none."""


class Source:
    """A configuration file, there or not, and the environment."""

    def __init__(self, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> None:
        """`path` as `load_settings` takes it."""
        self._path = path
        self._environ = environ
        self.loaded: Signature = None
        """That of the file from which settings were last read."""

    def load(self) -> Settings:
        """Return the settings as they are now. Raises `ConfigurationError`.

        A file that has gone is an error, although one that was never there is none: without its keys and its allowlist
        the service would be another.
        """
        found = self.signature()  # before it is read: what changes meanwhile is then seen as a change
        settings = load_settings(self._path, self._environ)
        if (self.loaded or found) and not self.signature():
            raise ConfigurationError([f"{path_of(self._path, self._environ)}: the file has gone"])
        self.loaded = found
        return settings

    def signature(self) -> Signature:
        """Tell, without reading it, whether the file may be another."""
        try:
            found = path_of(self._path, self._environ).stat()
        except OSError:
            return None
        # The last is another where somebody has been given the right to read it, too.
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns


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
