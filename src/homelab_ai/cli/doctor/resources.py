"""Memory and disk: what there is, what may be taken, and whether the folders can be written to."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.models import memory
from homelab_ai.settings import ResourcesSettings, Settings

_GB = memory.BYTES_PER_GB
_LITTLE_MEMORY = _GB
_LEAST_FREE: dict[str, float] = {"data_dir": 0.1, "models_dir": 2.0, "temporary folder": 0.5}
"""GB."""
_WITHOUT_LOCKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})
"""Types of file systems of other machines."""


def of_memory(
    resources: ResourcesSettings,
    *,
    allowed: Callable[[], int] = memory.machine_memory,
    physical: Callable[[], int] = lambda: psutil.virtual_memory().total,
) -> Iterator[Finding]:
    """Whether models find room in it."""
    there, budget = allowed(), memory.budget(resources).memory_bytes
    saw = f"{there / _GB:.1f} GB"
    if there < physical():
        saw += f" of the machine's {physical() / _GB:.1f} (the limit of a container, or of a unit of systemd)"
    if budget > there:
        saw += f"; resources.max_memory_gb lets models take {budget / _GB:.1f} GB, and the kernel will end them before"
        yield Finding("memory", "problem", saw, "resources: {max_memory_gb: auto}")
    elif there < _LITTLE_MEMORY:
        saw += ": enough for the smallest models only"
        yield Finding("memory", "warning", saw, "docker run --memory 2g; MemoryMax=2G in the unit; or a larger machine")
    else:
        yield Finding("memory", "ok", f"{saw}; models may take {budget / _GB:.1f} GB")


def of_folders(settings: Settings) -> Iterator[Finding]:
    """Whether what has to be kept can be kept, and the browser has room."""
    for name, folder in (("data_dir", settings.data_dir), ("models_dir", settings.models_dir)):
        yield from _of_folder(name, folder.absolute())
    # Chromium is told to share memory between its processes there, and not in /dev/shm, which containers keep small.
    yield from _of_folder("temporary folder", Path(tempfile.gettempdir()))


def _of_folder(name: str, folder: Path) -> Iterator[Finding]:
    there = next(part for part in (folder, *folder.parents) if part.exists())
    saw = f"{name}, {folder}"
    if not there.is_dir():
        yield Finding("disk", "problem", f"{saw}: {there} is a file", f"mv {there} {there}.old")
        return
    unusable = next((each for each in (there, folder / "state.db") if not _usable(each)), None)
    if unusable:
        user = os.geteuid()  # in a container it often has no name
        mend = f"sudo chown -R {user} {unusable}" if folder.exists() else f"sudo install -d -o {user} {folder}"
        yield Finding("disk", "problem", f"{saw}: the user {user} may not write to {unusable}", mend)
        return
    free = shutil.disk_usage(there).free / _GB
    if free < _LEAST_FREE[name]:
        mend = (
            f"du -xh {there} | sort -h | tail, and make room" if name != "models_dir" else "models_dir: /a/larger/disk"
        )
        yield Finding("disk", "warning", f"{saw}: {free:.1f} GB free", mend)
    elif name == "data_dir" and (kind := filesystem(there)) in _WITHOUT_LOCKS:
        saw += f": it is on another machine ({kind}), where a database can be damaged"
        yield Finding("disk", "warning", saw, "data_dir: /var/lib/homelab-ai, or another folder of this machine")
    else:
        yield Finding("disk", "ok", f"{saw}: {free:.1f} GB free")


def _usable(path: Path) -> bool:
    return not path.exists() or os.access(path, os.W_OK | (os.X_OK if path.is_dir() else os.R_OK))


def filesystem(folder: Path) -> str:
    """Return the type of what is mounted there, such as `ext4`."""
    mounted = [each for each in psutil.disk_partitions(all=True) if folder.is_relative_to(each.mountpoint)]
    return max(mounted, key=lambda each: len(each.mountpoint)).fstype if mounted else ""
