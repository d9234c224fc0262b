"""Which engine runs an embedding model: its export on OpenVINO where there can be one, else torch."""

import sys
from pathlib import Path
from typing import Any

from homelab_ai.embedding.engines import exports
from homelab_ai.embedding.engines.identity import fingerprint
from homelab_ai.models import memory
from homelab_ai.models.files import places
from homelab_ai.models.hosts.engine import Engine, LoadError, Report


def load(options: dict[str, Any], report: Report) -> Engine:
    """Load the model that the settings in `options` describe. Raises `LoadError`."""
    folder = places.find(options["hf_model"], revision=options["revision"], models_dir=options["models_dir"])
    reason, notes = _why_torch(options), list[str]()

    def tell(note: str) -> None:
        notes.append(note)
        report({"note": "; ".join(notes)})  # all of them: of reports in quick succession only the last arrives

    if not reason:
        try:
            return _exported(folder, options, tell)
        except exports.ExportFailed as failure:
            reason = str(failure)
            tell(f"is not run by OpenVINO: {reason}")
    if options["backend"] == "openvino":
        raise LoadError(f"backend openvino was asked for, but {reason}")
    from homelab_ai.embedding.engines.torch import TorchEmbeddings  # noqa: PLC0415 - only where it is needed

    return TorchEmbeddings(folder, options, reason)


def _exported(folder: Path, options: dict[str, Any], tell: exports.Tell) -> Engine:
    """Load the model's export. Raises `LoadError` or `ExportFailed`."""
    from homelab_ai.embedding.engines import openvino  # noqa: PLC0415 - only where it is needed

    where, export = exports.of(folder, options, openvino.capabilities(), tell)
    if export.reason:
        raise exports.ExportFailed(export.reason)
    wanted = [options["precision"]] if options["precision"] != "auto" else list(openvino.PRECISIONS)
    precision = next((each for each in wanted if each in export.cosines), None)
    if not precision:
        raise exports.ExportFailed(f"its export is not exact enough in {wanted[0]}, or this processor has none of it")
    window = options["max_length"] or export.window
    identity = fingerprint(folder, dimensions=export.dimensions, window=window, exact=True)
    try:
        return openvino.OpenVinoEmbeddings(
            where,
            export,
            precision,
            fingerprint=identity,
            max_length=options["max_length"],
            dimensions=options["dimensions"],
        )
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
