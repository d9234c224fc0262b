"""Which engine runs a model: one on its export to OpenVINO where there can be one, else one on torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from homelab_ai.models import memory
from homelab_ai.models.engines import exports
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.hosts.engine import Engine, LoadError, Report


class Engines(Protocol):
    """The engines of one ability. What they import, they import when they are asked for."""

    exporter: str
    """Dotted path of the module that exports such models."""

    def precisions(self) -> list[str]:
        """Return what exports of such models may be used in on this processor, the fastest first."""
        ...

    never_exported: str | None
    """Why the model is of a kind that is not exported, as the end of a sentence, if it is."""

    def on_openvino(self, folder: Path, where: Path, export: Export, precision: str, options: dict[str, Any]) -> Engine:
        """Load the export of the model in `folder`. Raises `LoadError`; anything else means that it is damaged."""
        ...

    def on_torch(self, folder: Path, options: dict[str, Any], reason: str) -> Engine:
        """Load the model itself; `reason` is why it is not run by OpenVINO. Raises `LoadError`."""
        ...


def load(engines: Engines, folder: Path, options: dict[str, Any], report: Report) -> Engine:
    """Load the model in `folder`, by the settings in `options`. Raises `LoadError`."""
    reason, notes = _why_torch(options) or engines.never_exported, list[str]()

    def tell(note: str) -> None:
        notes.append(note)
        report({"note": "; ".join(notes)})  # all of them: of reports in quick succession only the last arrives

    if not reason:
        try:
            return _exported(engines, folder, options, tell)
        except exports.ExportFailed as failure:
            reason = str(failure)
            tell(f"is not run by OpenVINO: {reason}")
    if options["backend"] == "openvino":
        raise LoadError(f"backend openvino was asked for, but {reason}")
    return engines.on_torch(folder, options, reason)


def _exported(engines: Engines, folder: Path, options: dict[str, Any], tell: Callable[[str], None]) -> Engine:
    """Load the model's export. Raises `LoadError` or `ExportFailed`."""
    from homelab_ai.models.engines import openvino_runtime  # noqa: PLC0415 - only where it is needed

    where, export = exports.of(folder, options, engines.exporter, openvino_runtime.capabilities(), tell)
    if export.reason:
        raise exports.ExportFailed(export.reason)
    wanted = [options["precision"]] if options["precision"] != "auto" else engines.precisions()
    precision = next((each for each in wanted if each in export.precisions), None)
    if not precision:
        raise exports.ExportFailed(f"its export is not exact enough in {wanted[0]}, or this processor has none of it")
    try:
        return engines.on_openvino(folder, where, export, precision, options)
    except LoadError:
        raise
    except Exception as error:
        exports.discard(where)
        raise exports.ExportFailed(
            f"its export was damaged ({type(error).__name__}); the next load makes it anew"
        ) from error


def _why_torch(options: dict[str, Any]) -> str | None:
    """Why the model is not to run on OpenVINO, whatever model it is."""
    if options["backend"] == "torch":
        return "the configuration says backend: torch"
    if options["precision"] == "float16":
        return "OpenVINO is not used in float16"
    if options["device"] == "cpu":
        return None
    if options["device"] == "auto" and not memory.gpu_is_likely() and sys.platform != "darwin":
        return None
    return "OpenVINO is used on the CPU only (device: cpu)"
