"""How much memory a model takes and how much there is: footprints, estimated or measured, and the budget for them.

A footprint is *private* memory, which an unload gives back: pages shared with other processes (the libraries' code)
are not in it. On the CPU it is read from the kernel for the whole process group of a host; what a model takes on a GPU
is what its host reports, because the driver's own per-process figures are unreliable inside containers.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # hosts use this module too, and have no use for pydantic's 20 MB
    from homelab_ai.settings import ResourcesSettings

BYTES_PER_GB = 1024**3

_PART_OF_THE_MACHINE = 0.6
"""What `max_memory_gb: auto` takes of the memory that this machine or container has."""

# What torch, transformers and their allocator keep beside the weights: 280 to 330 MB private on x86-64 for MiniLM.
_LIBRARIES_BYTES = 350 * 1024**2
_GPU_CONTEXT_BYTES = 500 * 1024**2
_WORKING_SPACE = 1.25
"""Activations and the loader's copies, as a part of the weights. An estimate stands for one load only."""
_UNKNOWN_WEIGHTS_BYTES = 500 * 1024**2
"""What a model is taken to weigh whose files are not on this machine yet."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a loaded model takes, of main memory and of GPU memory. Also what is left, or allowed, of each."""

    memory_bytes: int = 0
    gpu_memory_bytes: int = 0

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.memory_bytes + other.memory_bytes, self.gpu_memory_bytes + other.gpu_memory_bytes)

    def __sub__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.memory_bytes - other.memory_bytes, self.gpu_memory_bytes - other.gpu_memory_bytes)

    def missing(self, room: "Footprint") -> "Footprint":
        """What it lacks, where this is the room. What it does not need is not missed, overdrawn or not."""
        return Footprint(
            max(0, self.memory_bytes - room.memory_bytes) if self.memory_bytes else 0,
            max(0, self.gpu_memory_bytes - room.gpu_memory_bytes) if self.gpu_memory_bytes else 0,
        )

    def fits(self, room: "Footprint") -> bool:
        """Whether this room is enough for it."""
        return self.missing(room) == Footprint()

    def overlaps(self, other: "Footprint") -> bool:
        """Whether both take some of the same memory."""
        return bool(self.memory_bytes and other.memory_bytes) or bool(self.gpu_memory_bytes and other.gpu_memory_bytes)

    def largest(self, other: "Footprint") -> "Footprint":
        """The larger of each."""
        return Footprint(max(self.memory_bytes, other.memory_bytes), max(self.gpu_memory_bytes, other.gpu_memory_bytes))


def total(footprints: Iterable[Footprint]) -> Footprint:
    """The sum of them all."""
    return sum(footprints, Footprint())


def budget(resources: "ResourcesSettings") -> Footprint:
    """What all loaded models together may take."""
    if resources.max_memory_gb == "auto":
        memory = int(_PART_OF_THE_MACHINE * machine_memory())
    else:
        memory = int(resources.max_memory_gb * BYTES_PER_GB)
    return Footprint(memory, int(resources.max_gpu_memory_gb * BYTES_PER_GB))


def estimate(weights_bytes: int | None, *, on_gpu: bool) -> Footprint:
    """What a model that was never measured will take. `weights_bytes` is the size of its files, None if unknown."""
    weights = int(_WORKING_SPACE * (_UNKNOWN_WEIGHTS_BYTES if weights_bytes is None else weights_bytes))
    if on_gpu:
        return Footprint(2 * _LIBRARIES_BYTES, weights + _GPU_CONTEXT_BYTES)
    return Footprint(weights + _LIBRARIES_BYTES)


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this machine has, or less where a control group (a container) allows less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_cgroup_limits(root)])


def private_bytes(group: int, proc: Path = Path("/proc")) -> int | None:
    """Private memory of all processes in this process group, swapped-out pages included. None where it is unknown.

    Reads `smaps_rollup` (Linux 4.14, proc_pid_smaps(5)), which takes milliseconds: not for the event loop.
    """
    return private_bytes_of([int(entry.name) for entry in proc.glob("[0-9]*") if _group_of(entry) == group], proc)


def private_bytes_of(pids: Iterable[int], proc: Path = Path("/proc")) -> int | None:
    """Private memory of these processes, as `private_bytes` says. None where it is known of none of them."""
    sizes = [size for pid in pids if (size := _private_bytes(proc / str(pid))) is not None]
    return sum(sizes) if sizes else None


def _group_of(process: Path) -> int | None:
    try:
        # The name of the program stands in parentheses and may hold anything; after it: state, parent, group.
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[2])
    except (OSError, ValueError, IndexError):  # it has ended, or is not ours to look at
        return None


def _private_bytes(process: Path) -> int | None:
    try:
        rollup = (process / "smaps_rollup").read_text()
    except OSError:
        return None
    counted = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:", "SwapPss:")
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(counted))


def _cgroup_limits(root: Path) -> Iterator[int]:
    """The limits of the control groups that this process is in, of either version (cgroups(7))."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the path may be one of the host's, of which only the innermost folder is mounted.
        group = Path(path.lstrip("/"))
        yield from filter(None, map(_limit, (base / part / name for part in (group, *group.parents))))


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max", or there is no such group
        return None


def gpu_is_likely(exists: Callable[[str], bool] = os.path.exists, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torch may find a GPU here, as far as it can be told without it: NVIDIA's device, WSL's, AMD's.

    `CUDA_VISIBLE_DEVICES` without a device, or -1, hides them all, as it does from torch.
    """
    if environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return False
    return any(map(exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
