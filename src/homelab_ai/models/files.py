"""Getting the files of a model: from this machine, or else from the hub.

Runs inside a model host, before its engine loads anything. Only weights that cannot carry code are let through.
"""

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from homelab_ai.models import folders
from homelab_ai.models.engine import LoadError

# A repository often holds the same weights in five formats. safetensors will do; where there are none, the old format
# will, since torch reads it without running what is in it.
_SAFE = ["*.json", "*.txt", "*.model", "*.safetensors"]
_OLD = [*_SAFE, "pytorch_model*.bin", "*/pytorch_model.bin"]
_OTHER_RUNTIMES = ["onnx/*", "openvino/*"]
_CAN_CARRY_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack"}


def find(hf_model: str, *, revision: str | None, models_dir: str) -> Path:
    """Return the folder that holds the model, downloading it when it is nowhere on this machine.

    `hf_model` is a hub name (`organisation/name`) or a folder; `models_dir` holds downloads, and folders placed by
    hand under the hub name. Raises `LoadError` when the model is nowhere to be had, or holds no weights that are
    safe to read.
    """
    folder = folders.placed(hf_model, Path(models_dir))
    if not folder and folders.must_be_a_folder(hf_model):
        raise LoadError("its `hf_model` names a local folder that holds no model (there is no config.json in it)")
    folder = folder or _cached(hf_model, revision, models_dir)
    # A packaged model is one certain revision: it cannot stand in for another that was asked for.
    if not folder and revision is None:
        folder = folders.packaged(hf_model)
    folder = folder or _downloaded(hf_model, revision, models_dir)
    _check_weights(folder)
    return folder


def _cached(hf_model: str, revision: str | None, models_dir: str) -> Path | None:
    try:
        folder = _snapshot(hf_model, revision, models_dir, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise LoadError(f"{hf_model!r} is neither a folder nor a name on the hub (organisation/name)") from error
    return folder if folders.weights(folder) else None


def _downloaded(hf_model: str, revision: str | None, models_dir: str) -> Path:
    by_hand = f"or put its files into the folder {hf_model} inside the models folder (models_dir)"
    try:
        return _snapshot(hf_model, revision, models_dir, local_files_only=False)
    except GatedRepoError as error:
        raise LoadError(
            f"{hf_model} needs permission: accept its licence on the hub and set HF_TOKEN, {by_hand}"
        ) from error
    except RepositoryNotFoundError as error:
        raise LoadError(f"the hub has no model {hf_model} (if it is a private one, set HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise LoadError(f"{hf_model} has no revision {revision} on the hub") from error
    except LocalEntryNotFoundError as error:
        if constants.is_offline_mode():
            raise LoadError(
                f"{hf_model} is not on this machine and downloads are off (HF_HUB_OFFLINE): unset that, {by_hand}"
            ) from error
        raise LoadError(
            f"{hf_model} is not on this machine and the hub cannot be reached: check the network, {by_hand}"
        ) from error
    except HfHubHTTPError as error:
        raise LoadError(f"the hub refused to hand out {hf_model} (HTTP {error.response.status_code})") from error
    except OSError as error:
        raise LoadError(
            f"{hf_model} could not be stored in the models folder: {error.strerror or type(error).__name__}"
        ) from error


def _snapshot(hf_model: str, revision: str | None, models_dir: str, *, local_files_only: bool) -> Path:
    """Return the model's folder in the cache, with the safest weights that it has."""
    for patterns in (_SAFE, _OLD):
        folder = Path(
            snapshot_download(
                hf_model,
                revision=revision,
                cache_dir=models_dir,
                allow_patterns=patterns,
                ignore_patterns=_OTHER_RUNTIMES,
                local_files_only=local_files_only,
            )
        )
        if folders.weights(folder):
            break
    return folder


def _check_weights(folder: Path) -> None:
    if folders.weights(folder):
        return
    refused = sorted(path.name for path in folder.rglob("*") if path.suffix in _CAN_CARRY_CODE)
    if refused:
        raise LoadError(
            f"its weights come only as {', '.join(refused[:3])}, a format that can run code when it is read; "
            "convert them to safetensors"
        )
    raise LoadError("its folder holds no weights (*.safetensors)")
