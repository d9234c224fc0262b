"""Exports of models to OpenVINO: whether there is one that is still that of its model, and how one is made.

An export is a folder within `models_dir/exports`: the model as OpenVINO graphs, its tokenizer, and `export.json`, which
says what the engine has to know of them and how near they came to torch. A folder's name is a digest of all that makes
an export another one, so one that is outdated is simply not found. A model of which there can be none has a folder with
the reason, so that nobody tries again with every load.
"""

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from homelab_ai.models.files import places

FORMAT = 4
"""To be raised when exports are made or used in another way: all are made anew then."""

_ABOUT = "export.json"
_ROOM = 2.5
"""What an export may take of the disk, by the size of the weights: they may be in half precision, it is in float32."""
_PRINTED_AT_MOST = 4000
_PROGRAM = "homelab_ai.models.engines.export_process"

Tell = Callable[[str], None]
"""Has something written into the log of the service: the end of a sentence about the model."""


@dataclass(frozen=True)
class Export:
    """What `export.json` says."""

    revision: str | None
    """The one that the configuration names, if any."""
    reason: str | None
    """Why there is no graph, as the end of a sentence; None when there is one."""
    precisions: dict[str, float] = field(default_factory=dict)
    """Those that passed the gate, and how near to torch in float32 each came, as the model's ability counts that."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the engine has to know of the model."""


class ExportFailed(Exception):
    """There is no export and none could be made, this time. The text says why, as the end of a sentence."""


def of(
    folder: Path, options: dict[str, Any], module: str, capabilities: Iterable[str], tell: Tell
) -> tuple[Path, Export]:
    """Return the export of the model in `folder`, and where it is. The first time, this makes it.

    `module` is the dotted path of the one that makes it, in a process of its own. `capabilities` is what the processor
    can calculate in: on another one, the gate may have another outcome. Raises `ExportFailed`.
    """
    digest = _digest(folder, module, sorted(capabilities))
    where = places.exports(options["hf_model"], Path(options["models_dir"])) / digest
    if export := _read(where):
        return where, export
    tell("is exported to OpenVINO, which is done once")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with (where.parent / ".lock").open("w") as lock:  # another entry of the same model may be at it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (export := _read(where)):
                _make(module, folder, where, options["revision"], tell)
                export = _read(where)
    except OSError as error:
        raise ExportFailed(f"there is no writing into the folder exports of models_dir ({error.strerror})") from error
    if not export:
        raise ExportFailed("its export cannot be read")
    return where, export


def discard(where: Path) -> None:
    """Remove an export that turned out to be of no use; the next load makes it anew."""
    shutil.rmtree(where, ignore_errors=True)


def write(where: Path, export: Export) -> None:
    """Write `export.json`, the last file of an export."""
    (where / _ABOUT).write_text(json.dumps(asdict(export), indent=2) + "\n")


def _read(where: Path) -> Export | None:
    try:
        about = json.loads((where / _ABOUT).read_text())
        return Export(**about)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _digest(folder: Path, module: str, capabilities: list[str]) -> str:
    """A digest of the model's files, by their names, sizes and times, and of what else decides about an export.

    Their content would say it better, but to read gigabytes with every load would take longer than the load.
    """
    facts: list[Any] = [FORMAT, module, platform.machine(), capabilities]
    for file in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):  # a link in a cache may lead nowhere
            status = file.stat()
            if file.is_file():
                facts.append((str(file.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _make(module: str, folder: Path, where: Path, revision: str | None, tell: Tell) -> None:
    """Have a process of its own make the export: torch is in it, and its memory is to go when it is done.

    What it prints is told.
    """
    _remove_others(where.parent, revision)
    needed = _ROOM * sum(file.stat().st_size for file in places.weights(folder))
    if shutil.disk_usage(where.parent).free < needed:
        raise ExportFailed(f"its export needs {needed / 1e6:,.0f} MB of the disk that models_dir is on")
    half_made = where.with_name(f"{where.name}.part")
    half_made.mkdir()
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", _PROGRAM, module, str(folder), str(half_made), *([revision] if revision else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        tell(", ".join(done.stdout[-_PRINTED_AT_MOST:].splitlines()))
        if not _read(half_made):
            if done.returncode >= 0:
                raise ExportFailed("its export failed; the log says why")
            # Memory ended, most likely; it would again, and the next load is not to take so long for nothing.
            write(half_made, Export(revision, f"its export was ended by signal {-done.returncode}"))
        half_made.rename(where)
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def _remove_others(parent: Path, revision: str | None) -> None:
    """Remove what the same model was exported to before it was changed, and what was begun and never finished."""
    for other in filter(Path.is_dir, parent.iterdir()):
        about = _read(other)
        if about is None or about.revision == revision:
            shutil.rmtree(other, ignore_errors=True)
