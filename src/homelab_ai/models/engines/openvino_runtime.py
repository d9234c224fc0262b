"""OpenVINO, without its telemetry: every engine takes `ov` from here, and has its graphs compiled here.

`import openvino` alone sends an event to Google Analytics, and so does each conversion, if the package
`openvino_telemetry` is there; pip installs it as a dependency. Where it cannot be imported, OpenVINO uses a stub.
"""

import contextlib
import ctypes
import sys
from pathlib import Path

from homelab_ai.models import cores

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what Python takes for "cannot be imported"

import numpy as np  # noqa: E402 - after that
import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["capabilities", "compiled", "forget", "ops", "ov", "precisions", "read"]

_PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}
"""Ours to OpenVINO's, in the order in which they are preferred."""
_MADV_DONTNEED = 4

_CORE = ov.Core()

ov.Tensor(np.zeros(1, dtype=np.int64))
"""So that what the binding looks up of NumPy with the first array is looked up by now: of two threads that come first
at the same time, one waits for the interpreter's lock and the other, which has it, for the end of the look-up.
"""


def capabilities() -> list[str]:
    """Return what the processor can calculate in, as OpenVINO names it: FP32, BF16, INT8, ..."""
    return list(_CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def precisions() -> list[str]:
    """Return those of our precisions that the processor calculates in, the fastest first."""
    known = capabilities()
    return [ours for ours, theirs in _PRECISIONS.items() if theirs == "f32" or theirs.upper() in known]


def read(file: Path) -> "ov.Model":
    """Return the graph in a file."""
    return _CORE.read_model(str(file))


def compiled(graph: "ov.Model", precision: str, *, streams: int) -> "ov.CompiledModel":
    """Return a graph ready to run on every core that there is for it.

    `streams` is how many passes are calculated at a time; they divide the cores among them.
    """
    return _CORE.compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": cores.usable(),
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # it shares the machine with others
        },
    )


def forget(file: Path) -> None:
    """Drop the pages of a file that was read and is still mapped. What is needed again is read again (madvise(2)).

    The weights of matrix products are copied, packed, when they are first used. Of the file itself only the vectors of
    the words that come up are needed from then on.
    """
    with contextlib.suppress(OSError, AttributeError):  # it saves memory, nothing else
        libc = ctypes.CDLL(None)
        for line in Path("/proc/self/maps").read_text().splitlines():
            addresses, access, *_ = line.split(maxsplit=5)
            if line.endswith(f" {file.resolve()}") and "w" not in access:
                start, end = (int(address, 16) for address in addresses.split("-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
