"""What the programs have in common that export a model to OpenVINO.

Each is run by `exports` in a process of its own, because torch is in it. It converts the model and then asks both the
same questions (the gate): only precisions in which the export answers like torch in float32 may be used. A model that
cannot be exported, or passes in no precision, is written down with the reason.
"""

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from homelab_ai.models.engines import cores, exports, openvino_runtime
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.hosts import process


class NotPossibleError(Exception):
    """The model cannot be exported. The text says why, as the end of a sentence."""


def main(export: Callable[[Path, Path, str | None], Export]) -> NoReturn:
    """Be the program: make an export by the arguments `MODEL FOLDER [REVISION]`, or write down why there is none."""
    process.end_with_the_parent()
    folder, where, *named = sys.argv[1:]
    revision = named[0] if named else None
    warnings.filterwarnings("ignore")
    torch.set_num_threads(cores.usable())
    status = 0
    try:
        exports.write(Path(where), export(Path(folder), Path(where), revision))
    except NotPossibleError as reason:
        say(str(reason))
        exports.write(Path(where), Export(revision, str(reason)))
    except Exception:  # noqa: BLE001 - whatever it was, it belongs into the log
        say(traceback.format_exc())
        status = 1
    sys.stdout.flush()
    os._exit(status)  # nothing here is worth a clean exit, which takes OpenVINO and torch a second


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


def judged(where: Path, judge: Callable[[str], tuple[float, bool]]) -> dict[str, float]:
    """Put the gate's questions to an export in every precision that this processor has.

    `judge` says how near to torch it comes in a precision, and whether that is enough. Returns those that passed.
    Raises `NotPossibleError` when none did, and removes the files.
    """
    passed: dict[str, float] = {}
    for precision in openvino_runtime.precisions():
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
