"""One folder of exports for all tests of a run: to export the same model for each would take most of their time."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path


@functools.cache
def shared() -> Path:
    """The folder, which goes with this process. What is exported in a test is there for the next."""
    folder = Path(tempfile.mkdtemp(prefix="exports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lend(models_dir: Path) -> None:
    """Have a service with that `models_dir` use it."""
    models_dir.mkdir(parents=True, exist_ok=True)
    if not (models_dir / "exports").exists():
        (models_dir / "exports").symlink_to(shared(), target_is_directory=True)
