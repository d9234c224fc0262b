"""Exports of embedding models: that they are the model, and what happens where there can be none."""

import asyncio
import functools
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from homelab_ai.embedding.service import ENGINE
from homelab_ai.models.files import places
from homelab_ai.models.hosts.host import Host, HostLoadFailed, HostPlan
from support import embedders, exports
from support.disk import small_disk
from support.reference import MINILM, TEXTS, encode
from support.server import REPOSITORY

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    embedders.make(folder, MINILM)
    return folder


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def plan(model: Path, models_dir: Path, **options: Any) -> HostPlan:
    return HostPlan("model", ENGINE, embedders.options(model, models_dir, **options), run_timeout_seconds=60)


async def asked(model: Path, models_dir: Path, **options: Any) -> tuple[dict[str, Any], Any, list[int]]:
    """What a fresh host says of the model, what it makes of `TEXTS`, and which it cuts."""
    host = await Host.start(plan(model, models_dir, **options))
    try:
        answer = await host.run({}, orjson.dumps(TEXTS))
        matrix = np.frombuffer(answer.body, dtype=np.float32).reshape(answer.header["shape"])
        return host.described, matrix, answer.header["truncated"]
    finally:
        await host.stop()


@functools.cache
def expected_of(model: Path) -> Any:
    """What sentence-transformers makes of `TEXTS`, of a model that does not change."""
    return encode(TEXTS, model)


def agreement(ours: Any, theirs: Any) -> float:
    """The least cosine, of what sets each vector apart: models with random weights make nearly the same of all."""
    ours, theirs = (np.asarray(each, dtype=np.float64) - np.mean(theirs, axis=0) for each in (ours, theirs))
    return float(((ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))).min())


def folders(model: Path, models_dir: Path) -> list[Path]:
    parent = places.exports(str(model), models_dir)
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.exists() else []


@pytest.mark.parametrize(
    ("name", "dimensions", "window"),
    [("mean", 32, 128), ("first-dense", 48, 512), ("max", 64, 128), ("prompted", 16, 128)],
)
async def test_an_export_is_the_whole_pipeline(
    made: Path, models_dir: Path, name: str, dimensions: int, window: int
) -> None:
    exact = await asked(made / name, models_dir, precision="float32")
    fast = await asked(made / name, models_dir)
    expected = expected_of(made / name)
    for described, matrix, _ in (exact, fast):
        assert (described["backend"], described["dimensions"], described["max_length"]) == (
            "openvino",
            dimensions,
            window,
        )
        assert matrix.shape == (len(TEXTS), dimensions)
    assert agreement(exact[1], expected) > 0.9999
    assert agreement(fast[1], expected) > 0.9
    in_torch = await asked(made / name, models_dir, backend="torch")
    assert in_torch[0]["backend"] == "torch"
    assert exact[2] == in_torch[2]
    prints = {described["fingerprint"] for described in (exact[0], fast[0], in_torch[0])}
    assert len(prints) == 1, "they belong together"
    shorter = await asked(made / name, models_dir, max_length=17)
    assert shorter[0]["fingerprint"] not in prints
    assert len(folders(made / name, models_dir)) == 1


async def test_the_log_is_told_what_became_of_an_export(made: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    for name, expected in (
        ("mean", r"is exported to OpenVINO, .*float32: least cosine 1\.0"),
        ("unprompted", "is exported .* is not run by OpenVINO: it leaves its prompt out of the pooling"),
    ):
        host = await Host.start(plan(made / name, tmp_path), lambda progress: notes.append(progress["note"]))
        await host.stop()
        assert re.search(expected, notes[-1])


@pytest.mark.parametrize(
    ("name", "reason"), [("unprompted", "leaves its prompt out"), ("static", "no plain transformer")]
)
async def test_what_cannot_be_exported_stays_on_torch_and_says_why(
    made: Path, models_dir: Path, name: str, reason: str
) -> None:
    for _ in range(2):
        described, _, _ = await asked(made / name, models_dir)
        assert described["backend"] == "torch"
        assert reason in described["backend_reason"]
        (folder,) = folders(made / name, models_dir)
        about = folder / "export.json"
        assert [path.name for path in folder.iterdir()] == ["export.json"]
        stamp = about.stat().st_mtime_ns
    assert about.stat().st_mtime_ns == stamp, "it was tried again"
    with pytest.raises(HostLoadFailed, match=f"backend openvino was asked for, but it .*{reason}"):
        await asked(made / name, models_dir, backend="openvino")


@pytest.mark.parametrize("backend", ["auto", "openvino", "torch"])
async def test_a_model_that_describes_images_makes_no_vectors_of_texts(tmp_path: Path, backend: str) -> None:
    shapes = REPOSITORY / "tests" / "models" / "blip-shapes"
    with pytest.raises(HostLoadFailed, match="it makes no vectors of texts: 59 weights"):
        await asked(shapes, tmp_path, backend=backend)


async def test_a_changed_model_is_exported_anew_and_the_old_export_goes(made: Path, tmp_path: Path) -> None:
    model = shutil.copytree(made / "mean", tmp_path / "model")
    first, _, _ = await asked(model, tmp_path)
    before = folders(model, tmp_path)
    other = next((made / "mean").glob("**/*.safetensors"))
    shutil.copy(next((made / "prompted").glob("**/*.safetensors")), model / other.relative_to(made / "mean"))
    described, matrix, _ = await asked(model, tmp_path)
    assert described["backend"] == "openvino"
    assert described["fingerprint"] != first["fingerprint"]
    assert agreement(matrix, encode(TEXTS, model)) > 0.9
    assert len(folders(model, tmp_path)) == 1
    assert folders(model, tmp_path) != before


@pytest.mark.parametrize("damage", ["no graph", "no weights", "half the weights", "no tokenizer"])
async def test_a_damaged_export_costs_no_answer(made: Path, models_dir: Path, tmp_path: Path, damage: str) -> None:
    model = made / "mean"
    await asked(model, models_dir)
    (folder,) = folders(model, models_dir)
    shutil.copytree(folder, tmp_path / "copy")
    match damage:
        case "no graph":
            (folder / "model.xml").write_text("")
        case "no weights":
            (folder / "model.bin").unlink()
        case "half the weights":
            os.truncate(folder / "model.bin", (folder / "model.bin").stat().st_size // 2)
        case _:
            (folder / "tokenizer.json").unlink()
    described, matrix, _ = await asked(model, models_dir)
    assert agreement(matrix, expected_of(model)) > 0.9
    assert described["backend"] == "torch"
    assert "damaged" in described["backend_reason"]
    assert not folder.exists(), "the next load makes it anew"
    shutil.copytree(tmp_path / "copy", folder)


async def test_an_export_that_says_nothing_of_itself_is_made_anew(made: Path, models_dir: Path) -> None:
    model = made / "mean"
    await asked(model, models_dir)
    (folder,) = folders(model, models_dir)
    (folder / "export.json").write_text('{"revi')
    described, _, _ = await asked(model, models_dir)
    assert described["backend"] == "openvino"
    assert folders(model, models_dir) == [folder]


async def test_without_a_place_for_exports_models_run_on_torch(made: Path, tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file")
    described, _, _ = await asked(made / "mean", tmp_path)
    assert described["backend"] == "torch"
    assert "no writing into the folder exports" in described["backend_reason"]


async def test_without_room_on_the_disk_nothing_is_begun(made: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        described, _, _ = await asked(made / "mean", disk)
        assert described["backend"] == "torch"
        assert re.search(r"its export needs \d+ MB of the disk", described["backend_reason"])
        assert folders(made / "mean", disk) == []


async def test_two_that_want_the_same_export_share_it(made: Path, tmp_path: Path) -> None:
    left = places.exports(str(made / "mean"), tmp_path) / "0123.part"
    left.mkdir(parents=True)
    both = await asyncio.gather(asked(made / "mean", tmp_path), asked(made / "mean", tmp_path, max_length=64))
    assert [described["backend"] for described, _, _ in both] == ["openvino", "openvino"]
    assert len(folders(made / "mean", tmp_path)) == 1
    assert not left.exists()


async def test_precisions_that_there_is_no_export_in_run_on_torch(made: Path, models_dir: Path) -> None:
    await asked(made / "mean", models_dir)
    (folder,) = folders(made / "mean", models_dir)
    about = json.loads((folder / "export.json").read_text())
    try:
        (folder / "export.json").write_text(json.dumps({**about, "precisions": {"float32": 1.0}}))
        described, _, _ = await asked(made / "mean", models_dir)
        assert (described["backend"], described["precision"]) == ("openvino", "float32")
        described, _, _ = await asked(made / "mean", models_dir, precision="bfloat16")
        assert (described["backend"], described["precision"]) == ("torch", "bfloat16")
        assert "not exact enough in bfloat16" in described["backend_reason"]
    finally:
        (folder / "export.json").write_text(json.dumps(about))


def test_an_export_reaches_nobody_and_one_that_is_not_exact_enough_is_not_kept(made: Path, tmp_path: Path) -> None:
    module, gate = "homelab_ai.embedding.engines.export", "homelab_ai.embedding.engines.gate"
    printed, good = exports.made(module, made / "max", tmp_path / "good", gate, LEAST_COSINE=0.999)
    _, bad = exports.made(module, made / "max", tmp_path / "bad", gate, LEAST_COSINE=1.1)
    assert "float32: least cosine 1.0" in printed
    assert good["reason"] is None
    assert min(good["precisions"].values()) >= 0.999
    assert bad["reason"] == "its export is not exact enough"
    assert bad["precisions"] == {}
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["export.json"]


async def test_an_export_that_is_killed_is_not_tried_again(made: Path, tmp_path: Path) -> None:
    """As by the kernel, when memory ends. The first thing that the program does is to look at the model's folder."""
    model = shutil.copytree(made / "mean", tmp_path / "model")
    sitecustomize = tmp_path / "sitecustomize.py"
    sitecustomize.write_text(
        "import os, signal, sys\n"
        "if any('engines.export' in argument for argument in sys.orig_argv): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), environment]))
        described, _, _ = await asked(model, tmp_path)
    assert described["backend"] == "torch"
    assert "ended by signal 9" in described["backend_reason"]
    described, _, _ = await asked(model, tmp_path)
    assert "ended by signal 9" in described["backend_reason"]
    assert len(folders(model, tmp_path)) == 1
