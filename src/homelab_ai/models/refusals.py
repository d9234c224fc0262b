"""What callers are told who cannot be given a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from homelab_ai.errors import Conflict, ModelLoadFailed, ModelNotFound, ResourceExhausted
from homelab_ai.models.catalogue import Model
from homelab_ai.models.files.downloads import Progress
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.models.residency import Slot

_RESTART_SECONDS = 5
_DISK_GB = 1_000_000_000
"""As disks are sold, and as the hub shows sizes; of memory, a GB is 1024 MB."""


def closed() -> ResourceExhausted:
    """The service is on its way out."""
    return ResourceExhausted("The service is shutting down", retry_after_seconds=_RESTART_SECONDS)


def removed(model_id: str) -> ModelNotFound:
    """The model was removed after the request had come in."""
    return ModelNotFound(f"Model {model_id!r} has just been removed", details={"model_id": model_id})


def too_many_requests(model_id: str, requests: int, seconds: float) -> ResourceExhausted:
    """As many requests as may are waiting; there may be room in `seconds`."""
    return ResourceExhausted(
        f"{requests} requests are at work or waiting already, which is as many as may",
        details={"model_id": model_id, "requests": requests},
        retry_after_seconds=max(1, math.ceil(seconds)),
    )


def no_engine(slot: Slot) -> ModelLoadFailed:
    """Models of this kind can be configured, but not run."""
    return ModelLoadFailed(
        f"Model {slot.model.id!r} could not be loaded: this version has no engine for models of type {slot.model.kind}",
        details={"model_id": slot.model.id},
    )


def load_failed(slot: Slot, retry_after_seconds: float) -> ModelLoadFailed:
    """The last load failed, and the next is not tried before that time is over."""
    return ModelLoadFailed(
        f"Model {slot.model.id!r} could not be loaded: {slot.failure}",
        details={"model_id": slot.model.id},
        retry_after_seconds=math.ceil(retry_after_seconds),
    )


def still_downloading(slot: Slot, progress: Progress) -> ResourceExhausted:
    """The model is on its way, and will not be here before a request has to be answered."""
    total = progress.total_bytes or 0
    return ResourceExhausted(
        f"Model {slot.model.id!r} is being downloaded: {progress.bytes / _DISK_GB:.2f} of {total / _DISK_GB:.2f} GB "
        "are here",
        details={"model_id": slot.model.id, "bytes": progress.bytes, "total_bytes": total},
        retry_after_seconds=math.ceil(progress.seconds_left or 1),
    )


def nothing_to_download(model: Model) -> Conflict:
    """The model is a folder of this machine."""
    return Conflict(
        f"Model {model.id!r} is a folder of this machine: there is nothing to download", details={"model_id": model.id}
    )


def files_in_use(model: Model, other: Model) -> Conflict:
    """The files of a model that is to be purged are those of another, too."""
    return Conflict(
        f"purge: model {other.id!r} has the same files as {model.id!r}; remove that one first, or leave the files here",
        details={"model_id": other.id},
    )


def cannot_fit(
    what: str, need: Footprint, budget: Footprint, pinned: Sequence[Slot], details: Mapping[str, Any]
) -> ResourceExhausted:
    """`what` needs more than the budget, less what pinned models hold of it. `details` say more of what it is."""
    held = sum(other.held.memory_bytes for other in pinned)
    if need.memory_bytes + held > budget.memory_bytes:
        kind, needed, limit = "memory", need.memory_bytes, budget.memory_bytes
    else:
        kind, needed, limit = "gpu_memory", need.gpu_memory_bytes, budget.gpu_memory_bytes
    names = [other.model.id for other in pinned]
    stay = f", and what is pinned stays loaded ({', '.join(names)})" if pinned else ""
    return ResourceExhausted(
        f"{what} needs {needed / BYTES_PER_GB:.2f} GB, but resources.max_{kind}_gb allows "
        f"{limit / BYTES_PER_GB:.2f} GB{stay}",
        details={
            **details,
            f"needed_{kind}_bytes": needed,
            f"max_{kind}_bytes": limit,
            "pinned_models": names,
        },
    )
