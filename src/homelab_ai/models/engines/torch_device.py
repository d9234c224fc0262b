"""Where torch calculates, and what that takes of a GPU."""

import torch

from homelab_ai.models.hosts.engine import LoadError

_GPU_CONTEXT_BYTES = 500 * 1024**2


def chosen(device: str) -> str:
    """Return the device that a setting means: `auto` is a GPU where there is one. Raises `LoadError`."""
    if device.startswith("cuda"):
        found = torch.cuda.device_count()
        if not found:
            raise LoadError(f"device {device!r} was asked for, but torch finds no GPU here")
        if int(device.partition(":")[2] or 0) >= found:
            raise LoadError(f"device {device!r} was asked for, but the GPUs here are cuda:0 to cuda:{found - 1}")
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gpu_memory(device: torch.device) -> int:
    """What this process takes of the GPU: the allocator's reserve, and CUDA's own context, which nothing reports."""
    return torch.cuda.memory_reserved(device) + _GPU_CONTEXT_BYTES if device.type == "cuda" else 0
