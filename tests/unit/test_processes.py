"""Finding and ending what a process has started."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from homelab_ai.crawling import processes
from homelab_ai.models import memory
from support.server import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

FAMILY = """
import os, subprocess, sys, time
from homelab_ai.crawling import processes
from homelab_ai.models import memory
from homelab_ai.crawling.engines.process import _adopt_orphans
_adopt_orphans()
child = "import os, subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
while len(processes.below(os.getpid())) < 2:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.read()
processes.end_below(os.getpid())
print(processes.below(os.getpid()), flush=True)
"""


def test_everything_below_a_process_is_found_and_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as family:
        assert family.stdout
        assert family.stdout.readline() == "ready\n"
        found = processes.below(family.pid)
        child, grandchild = map(psutil.Process, found)
        assert child.cmdline()[0] == sys.executable
        wait_for(lambda: grandchild.cmdline() == ["sleep", "60"])  # until then it looks like what has started it
        assert (memory.private_bytes_of([family.pid, *found]) or 0) > 1_000_000
        assert family.stdin
        family.stdin.close()
        assert family.stdout.readline() == "[]\n"
        assert not [pid for pid in found if psutil.pid_exists(pid)]


def test_a_process_is_found_by_a_folder_in_its_environment(tmp_path: Path) -> None:
    folder = str(tmp_path / "of-one-browser")
    with subprocess.Popen(["sleep", "60"], env=os.environ | {"TMPDIR": folder}) as sleeper:
        wait_for(lambda: processes.holding(folder) == [sleeper.pid])
        processes.end_holding(folder)
        assert sleeper.wait(5) == -9


def test_what_has_ended_is_nothing() -> None:
    with subprocess.Popen(["true"]) as done:
        done.wait()
    assert processes.below(done.pid) == []
    assert memory.private_bytes_of([done.pid]) is None
