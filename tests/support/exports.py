"""Exports in tests: one folder of them for all tests of a run, and the program that makes one, watched."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


@functools.cache
def shared() -> Path:
    """The folder, which goes with this process: exporting the same model for each test would take most of the time."""
    folder = Path(tempfile.mkdtemp(prefix="exports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lend(models_dir: Path) -> None:
    """Have a service with that `models_dir` use it."""
    models_dir.mkdir(parents=True, exist_ok=True)
    if not (models_dir / "exports").exists():
        (models_dir / "exports").symlink_to(shared(), target_is_directory=True)


_PROGRAM = """
import importlib, sys

def heard(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        print("it tried to reach somebody:", event, arguments)

sys.addaudithook(heard)
from homelab_ai.models.engines import export_process
*_, module, _, _, gate, name, value = sys.argv
del sys.argv[4:]
importlib.import_module(module)
setattr(sys.modules[gate], name, float(value))
assert sys.modules["openvino_telemetry"] is None
export_process.main()
"""


def made(module: str, model: Path, folder: Path, gate: str, **bound: float) -> tuple[str, dict[str, Any]]:
    """Export a model with one bound changed that stands in the module `gate`.

    Returns what was printed, and what `export.json` says. Fails when the program tries to reach anybody.
    """
    ((name, value),) = bound.items()
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module, str(model), str(folder), gate, name, str(value)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "it tried to reach somebody" not in done.stdout
    about: dict[str, Any] = json.loads((folder / "export.json").read_text())
    return done.stdout, about
