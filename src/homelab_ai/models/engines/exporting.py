"""What the modules have in common that export a model to OpenVINO (`exports` says what an export is).

Each belongs to one ability and has one function, `export(model, folder, revision) -> Export`, which raises
`NotPossibleError`. It converts the model and then asks both the same questions (the gate): only precisions in which the
export answers like torch in float32 may be used.
"""

import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from homelab_ai.models.engines import openvino_runtime


class NotPossibleError(Exception):
    """The model cannot be exported. The text says why, as the end of a sentence."""


def say(text: str) -> None:
    """Have something written into the log of the service."""
    sys.stdout.write(f"{text}\n")  # libraries print to stderr what nobody needs


def converted(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> openvino_runtime.ov.Model:
    """Return a module as a graph. Raises `NotPossibleError`."""
    try:
        with torch.inference_mode():
            return openvino_runtime.ov.convert_model(module, example_input=example)
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
        raise NotPossibleError("its architecture cannot be converted") from error


def judged(where: Path, precisions: Iterable[str], judge: Callable[[str], tuple[float, bool]]) -> dict[str, float]:
    """Put the gate's questions to an export in every precision that it may be used in.

    `judge` says how near to torch it comes in a precision, and whether that is enough. Returns those that passed.
    Raises `NotPossibleError` when none did, and removes the files.
    """
    passed: dict[str, float] = {}
    for precision in precisions:
        try:
            nearness, enough = judge(precision)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, torch is still there
            say(f"{precision}: {type(error).__name__}: {error}")
            continue
        finally:
            gc.collect()
        if enough:
            passed[precision] = round(nearness, 7)
    if not passed:
        for file in where.iterdir():
            file.unlink()
        raise NotPossibleError("its export is not exact enough")
    return passed
