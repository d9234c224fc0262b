"""What runs the models, and by which clock: processor, GPU, time."""

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.models import memory
from homelab_ai.models.device import Gpu, Processor, read_nvml
from homelab_ai.settings import ResourcesSettings

_TIME_ERROR = 5
"""adjtimex(2): nobody sets the clock right."""
_TIMEX_BYTES = 512
"""More than a `struct timex` takes anywhere."""
_PART_OF_A_GPU = 0.9
"""What models may sensibly take of one: others show the screen on it."""
_GB = memory.BYTES_PER_GB


def of_processor(found: Processor, architecture: str = platform.machine()) -> Iterator[Finding]:
    """Whether it is one on which models are fast."""
    features = " ".join(found.features) or "without any of the fast instructions"
    saw = f"{found.name}, {found.cores} of {os.cpu_count()} cores, {features}"
    if architecture in {"x86_64", "AMD64"} and "avx2" not in found.features:
        mend = "in a virtual machine, give it the processor of its host (Proxmox: CPU type `host`)"
        yield Finding("processor", "warning", f"{saw}: without AVX2, models are several times slower", mend)
    else:
        yield Finding("processor", "ok", saw)


def of_gpu(
    resources: ResourcesSettings,
    *,
    likely: Callable[[], bool] = memory.gpu_is_likely,
    read: Callable[[], Sequence[Gpu]] = read_nvml,
    torch: Callable[[], str] = lambda: version("torch"),
) -> Iterator[Finding]:
    """Whether there is one that can be used, and that is meant to be."""
    wanted = resources.device.startswith("cuda")
    if not likely():
        if wanted:
            saw = f"resources.device is {resources.device}, but there is no GPU here"
            mend = "resources: {device: auto}, or install the driver, or give the container its GPU (--gpus all)"
            yield Finding("gpu", "problem", saw, mend)
        else:
            yield Finding("gpu", "ok", "none: models run on the processor")
        return
    if resources.device == "cpu":
        yield Finding("gpu", "ok", "there is one, and resources.device is cpu: models run on the processor")
        return
    if "+cpu" in torch():
        yield Finding("gpu", "warning", f"there is one, but torch {torch()} cannot use it", "GPU=1 make run")
    try:
        gpus = read()
    except Exception as error:  # noqa: BLE001 - whatever the driver raises
        mend = "nvidia-smi has to show it; if it does not: install the driver anew, or restart the machine"
        yield Finding("gpu", "problem", f"its driver does not answer: {error}", mend)
        return
    if not gpus:
        yield Finding("gpu", "warning", "there is one, but nothing to ask it by", "pip install 'nvidia-ml-py>=12.560'")
    for gpu in gpus:
        there, free = gpu.memory_bytes / _GB, (gpu.memory_bytes - gpu.memory_used_bytes) / _GB
        saw = f"{gpu.name}, {free:.1f} of {there:.1f} GB free"
        if resources.max_gpu_memory_gb > there:
            saw += f", which is less than resources.max_gpu_memory_gb ({resources.max_gpu_memory_gb:g})"
            mend = f"resources: {{max_gpu_memory_gb: {there * _PART_OF_A_GPU:.1f}}}"
            yield Finding("gpu", "warning", saw, mend)
        else:
            yield Finding("gpu", "ok", saw)


def is_kept() -> bool | None:
    """Tell whether the kernel knows of somebody who sets the clock right; None where it does not tell."""
    try:
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):  # not Linux
        return None
    return None if state < 0 else state != _TIME_ERROR


def of_clock(
    now: Callable[[], float] = time.time,
    kept: Callable[[], bool | None] = is_kept,
    installed: Path = Path(__file__),
) -> Iterator[Finding]:
    """Whether it tells the time, without which no certificate can be believed."""
    mend = "sudo timedatectl set-ntp true (in a container or virtual machine: on its host)"
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now()))
    if now() < installed.stat().st_mtime:
        yield Finding("clock", "problem", f"it is {shown}, which is before this program was installed", mend)
    elif kept() is False:
        yield Finding("clock", "warning", f"it is {shown}, and nobody sets the clock right", mend)
    else:
        yield Finding("clock", "ok", f"it is {shown}")
