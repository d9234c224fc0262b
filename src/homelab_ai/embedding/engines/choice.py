"""Which engine runs an embedding model: its export on OpenVINO where there can be one, else torch."""

from pathlib import Path
from typing import Any

from homelab_ai.embedding.engines.identity import fingerprint
from homelab_ai.models.engines import choice
from homelab_ai.models.engines.exports import Export
from homelab_ai.models.files import places
from homelab_ai.models.hosts.engine import Engine, Report


def load(options: dict[str, Any], report: Report) -> Engine:
    """Load the model that the settings in `options` describe. Raises `LoadError`."""
    folder = places.find(options["hf_model"], revision=options["revision"], models_dir=options["models_dir"])
    return choice.load(_Engines(), folder, options, report)


class _Engines:
    exporter = "homelab_ai.embedding.engines.export"
    never_exported: str | None = None

    def precisions(self) -> list[str]:
        from homelab_ai.models.engines import openvino_runtime  # noqa: PLC0415

        return openvino_runtime.precisions()

    def on_openvino(self, folder: Path, where: Path, export: Export, precision: str, options: dict[str, Any]) -> Engine:
        from homelab_ai.embedding.engines.openvino import OpenVinoEmbeddings  # noqa: PLC0415 - only where it is needed
        from homelab_ai.embedding.engines.tokens import Facts  # noqa: PLC0415

        facts = Facts(**export.facts)
        window = options["max_length"] or facts.window
        return OpenVinoEmbeddings(
            where,
            facts,
            precision,
            fingerprint=fingerprint(folder, dimensions=facts.dimensions, window=window, exact=True),
            max_length=options["max_length"],
            dimensions=options["dimensions"],
        )

    def on_torch(self, folder: Path, options: dict[str, Any], reason: str) -> Engine:
        from homelab_ai.embedding.engines.torch import TorchEmbeddings  # noqa: PLC0415 - only where it is needed

        return TorchEmbeddings(folder, options, reason)
