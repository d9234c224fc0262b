"""What machine a figure was measured on: a figure without it says nothing."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

_TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def describe() -> str:
    """Return processor, cores, memory, what the processor can calculate with, and the versions that matter."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = [flag for flag in _TELLING_FLAGS if flag in fields.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{fields.get('model name', platform.processor())}, {cores} cores ({' '.join(flags) or 'no AVX2'}), "
        f"{memory:.0f} GB, Python {platform.python_version()}, torch {version('torch')}, "
        f"sentence-transformers {version('sentence-transformers')}{_gpu()}"
    )


def _gpu() -> str:
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not shutil.which("nvidia-smi"):
        return ""
    return "\n" + subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
