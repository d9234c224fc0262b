"""How many processor cores an engine may use."""

import contextlib
import math
import os
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable(cpu_max: Path = _CPU_MAX) -> int:
    """Return the cores that this process may run on, at least 1: by its affinity, and by its container's quota.

    Libraries count the machine's cores. In a container that may use two of sixteen, sixteen threads would be stopped
    by the scheduler most of the time, each holding up the others (https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max" for no limit
        quota, period = cpu_max.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)
