"""What runs the models here: the processor, and the GPUs as NVIDIA's driver tells of them.

torch could tell too, but it does not belong into this process. The figures of the driver are those of a whole GPU, for
whoever looks; what models take is what their hosts report (`models.memory`).
"""

import asyncio
import contextlib
import importlib
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_ai.looks import look
from homelab_ai.models import cores, memory
from homelab_ai.models.clock import Clock

log = logging.getLogger(__name__)

_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),  # x86-64
    *("asimddp", "i8mm", "bf16", "sve"),  # arm64
)
"""Of a processor, those that decide how fast a model is, as the kernel names them."""
_GOOD_FOR_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 1.0
"""A driver that has hung must not hold up those who look."""


@dataclass(frozen=True)
class Processor:
    """What calculates where no GPU does."""

    name: str
    cores: int
    """That the models may use."""
    features: tuple[str, ...]
    """Those of `_FEATURES` that it has."""


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine, whoever uses it."""

    name: str
    memory_bytes: int
    memory_used_bytes: int


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """Return what is known of the processor (proc_cpuinfo(5))."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):  # not Linux
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return Processor(name, cores.usable(), tuple(feature for feature in _FEATURES if feature in flags))


class Gpus:
    """Asks the driver, but not more often than every few seconds, and never on the event loop."""

    def __init__(self, clock: Clock, read: Callable[[], Sequence[Gpu]] | None = None) -> None:
        """`read` asks the driver; may block, and raise anything."""
        self._clock = clock
        self._read = read or read_nvml
        self._known: Sequence[Gpu] = ()
        self._known_since: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._complained = False

    async def now(self) -> Sequence[Gpu]:
        """Return the GPUs, as they were a few seconds ago at most; longer ago where the driver does not answer."""
        recent = self._known_since is not None and self._clock.time() - self._known_since < _GOOD_FOR_SECONDS
        if not recent and not self._reading:
            self._reading = asyncio.create_task(self._look())
        if self._reading:
            await asyncio.wait([self._reading], timeout=_LONGEST_WAIT_SECONDS)
        return self._known

    async def _look(self) -> None:
        try:
            self._known = await look(self._read)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises, those who look want the rest
            self._known = ()
            if not self._complained:
                log.warning("NVIDIA's driver tells nothing of the GPU: %s", error)
            self._complained = True
        finally:
            self._known_since, self._reading = self._clock.time(), None

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._reading:
            self._reading.cancel()


def read_nvml() -> Sequence[Gpu]:
    """Ask the driver, where there is one and `nvidia-ml-py` (the extra `gpu`) is installed. May block."""
    if not memory.gpu_is_likely():
        return ()
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return ()
    nvml.nvmlInit()  # counted: each goes with a shutdown, and between them the driver stays awake
    try:
        return [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name, figures = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(name if isinstance(name, str) else name.decode(), figures.total, figures.used)
