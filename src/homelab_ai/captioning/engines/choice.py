"""Which engine runs a captioning model: its export on OpenVINO where it is of the BLIP family, else torch."""

import json
from pathlib import Path
from typing import Any

from homelab_ai.models.engines import choice
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.files import places
from homelab_ai.models.hosts.engine import Engine, LoadError, Report


def load(options: dict[str, Any], report: Report) -> Engine:
    """Load the model that the settings in `options` describe. Raises `LoadError`."""
    folder = places.find(options["hf_model"], revision=options["revision"], models_dir=options["models_dir"])
    return choice.load(_Engines(_is_blip(folder)), folder, options, report)


class _Engines:
    exporter = "homelab_ai.captioning.engines.export"

    def __init__(self, is_blip: bool) -> None:  # noqa: FBT001 - it is the only thing
        self._is_blip = is_blip
        self.never_exported = None if is_blip else "only models of the BLIP family are exported"

    def precisions(self) -> list[str]:
        from homelab_ai.captioning.engines.openvino import precisions  # noqa: PLC0415

        return precisions()

    def on_openvino(self, folder: Path, where: Path, export: Export, precision: str, options: dict[str, Any]) -> Engine:  # noqa: ARG002 - the folder: its export has all
        from homelab_ai.captioning.engines.openvino import Facts, OpenVinoCaptions  # noqa: PLC0415 - only where needed

        return OpenVinoCaptions(where, Facts(**export.facts), precision, options["run_seconds"])

    def on_torch(self, folder: Path, options: dict[str, Any], reason: str) -> Engine:
        from homelab_ai.captioning.engines.torch import Blip, VisionLanguage  # noqa: PLC0415 - only where it is needed

        return (Blip if self._is_blip else VisionLanguage)(folder, options, reason)


def _is_blip(folder: Path) -> bool:
    try:
        kind = json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError("its config.json does not say what kind of model it is (model_type)") from error
    return bool(kind == "blip")
