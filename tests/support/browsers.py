"""Browsers to test with: whether there is one, and which processes it consists of."""

import contextlib
import shutil

import psutil
import pytest

NEEDS_CHROMIUM = pytest.mark.skipif(
    not any(map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))),
    reason="Chromium is not installed (apt-get install chromium-headless-shell)",
)


def processes_of(pid: int) -> list[psutil.Process]:
    """This process, and all below it."""
    above = psutil.Process(pid)
    return [above, *above.children(recursive=True)]


def parts_of(pid: int) -> dict[str, list[psutil.Process]]:
    """What of these belongs to a browser: the process above, the driver, all of Chromium, and of that its first one
    (`main`) and the pages' own (`renderers`).
    """
    found: dict[str, list[psutil.Process]] = {
        part: [] for part in ("process", "driver", "Chromium", "main", "renderers")
    }
    for each in processes_of(pid):
        with contextlib.suppress(psutil.Error):  # it is about to go
            line = " ".join(each.cmdline())
            if "crawling.engines.process" in line:
                found["process"].append(each)
            elif "run-driver" in line:
                found["driver"].append(each)
            elif "chrom" in line:
                found["Chromium"].append(each)
            if "--remote-debugging-pipe" in line and not found["main"]:  # what it forks has its words for a moment
                found["main"].append(each)
            if "--type=renderer" in line:
                found["renderers"].append(each)
    return found


def zombies_below(pid: int) -> list[psutil.Process]:
    """Processes below this one that have ended and that nobody has taken from the kernel's table."""
    found = []
    for each in processes_of(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.status() == psutil.STATUS_ZOMBIE:
                found.append(each)
    return found
