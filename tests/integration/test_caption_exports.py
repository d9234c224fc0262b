"""Exports of captioning models: that they say what transformers says, and what happens where there can be none."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from homelab_ai.captioning.engines import probes
from homelab_ai.captioning.engines.openvino import read_aloud
from homelab_ai.captioning.engines.pixels import Pixels, unpacked
from homelab_ai.captioning.service import ENGINE
from homelab_ai.models.engines import openvino_runtime
from homelab_ai.models.engines.compressing import compress
from homelab_ai.models.engines.openvino_runtime import ops, ov
from homelab_ai.models.files import places
from homelab_ai.models.hosts.host import Host, HostLoadFailed, HostPlan
from support import captioners, exports

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    captioners.make(folder)
    for number, picture in enumerate(probes.pictures()):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def body(*pictures: Pixels) -> bytes:
    return b"".join(struct.pack("!II", picture.shape[1], picture.shape[0]) + picture.tobytes() for picture in pictures)


def wishes(**more: Any) -> dict[str, Any]:
    return {"prompt": None, "max_new_tokens": 12, "num_beams": 1, **more}


async def started(model: Path, models_dir: Path, **options: Any) -> Host:
    automatic = dict.fromkeys(("device", "backend", "precision"), "auto")
    told = {"hf_model": str(model), "models_dir": str(models_dir), "revision": None, "run_seconds": 30.0}
    return await Host.start(HostPlan("model", ENGINE, {**automatic, **told, **options}, run_timeout_seconds=60))


async def said(host: Host, *pictures: Pixels, **more: Any) -> list[str]:
    captions: list[str] = orjson.loads((await host.run(wishes(**more), body(*pictures))).body)
    return captions


def test_pictures_arrive_as_they_were_sent() -> None:
    pictures = probes.pictures()
    assert all(np.array_equal(*pair) for pair in zip(unpacked(body(*pictures)), pictures, strict=True))
    assert unpacked(b"") == []


@pytest.mark.parametrize(
    ("name", "tokens", "beams"),
    [
        ("shapes", 1, 1),
        ("shapes", 12, 1),
        ("shapes", 12, 3),
        ("random", 40, 1),  # beyond 16, the room for what was read is doubled
        ("random", 40, 5),
    ],
)
async def test_an_export_says_what_transformers_says(
    made: Path, models_dir: Path, name: str, tokens: int, beams: int
) -> None:
    """Of pictures one by one, and of more than go through the vision tower at a time."""
    model, wished = SHAPES if name == "shapes" else made / "blip", {"max_new_tokens": tokens, "num_beams": beams}
    expected = captioners.captions(model, *sorted(made.glob("*.png")), **wished)
    host = await started(model, models_dir, precision="float32")
    try:
        assert (host.described["backend"], host.described["precision"]) == ("openvino", "float32")
        assert await said(host, *probes.pictures(), **wished) == expected
        assert [await said(host, each, **wished) for each in probes.pictures()] == [[caption] for caption in expected]
    finally:
        await host.stop()


async def test_the_fastest_that_passes_the_gate_is_used_and_what_is_asked_for_is_exact(
    models_dir: Path,
) -> None:
    described = []
    for options in ({}, {"precision": "float32"}):
        host = await started(SHAPES, models_dir, **options)
        await host.stop()
        described.append(host.described["precision"])
    assert described == [f"{openvino_runtime.precisions()[0]}/int8", "float32"]


def test_weights_in_8_bits_are_near_and_what_looks_words_up_keeps_them_whole(tmp_path: Path) -> None:
    dice = np.random.default_rng(7)
    table = dice.normal(size=(50, 24)).astype(np.float32) * dice.uniform(0.01, 100, (50, 1)).astype(np.float32)
    table[3] = 0
    ids, states = ops.parameter([-1], ov.Type.i64), ops.parameter([-1, 24], ov.Type.f32)
    words = ops.constant(table)
    found = ops.gather(words, ids, ops.constant(0))
    scores = ops.matmul(states, words, transpose_a=False, transpose_b=True)
    turned = ops.matmul(scores, ops.constant(table), transpose_a=False, transpose_b=False)
    graph = ov.Model([found, scores, turned], [ids, states])
    given = [np.arange(50), dice.normal(size=(5, 24)).astype(np.float32)]
    run = openvino_runtime.compiled(graph, "float32", streams=1)
    before = [np.array(run(given)[number]) for number in range(3)]
    compress(graph)
    ov.save_model(graph, tmp_path / "graph.xml", compress_to_fp16=False)
    run = openvino_runtime.compiled(openvino_runtime.read(tmp_path / "graph.xml"), "float32", streams=1)
    after = [np.array(run(given)[number]) for number in range(3)]
    assert np.array_equal(before[0], after[0])
    for exact, near in zip(before[1:], after[1:], strict=True):
        assert not np.array_equal(exact, near)
        assert np.abs(exact - near).max() < 0.02 * np.abs(exact).max()


async def test_what_a_model_has_learnt_is_said_in_every_engine(made: Path, models_dir: Path) -> None:
    picture = np.full((120, 160, 3), 235, np.uint8)
    picture[30:90, 50:110] = (220, 20, 20)
    cases: list[tuple[dict[str, str], str, set[str]]] = [
        ({}, "openvino", {"inference", "vision", "generation"}),
        ({"backend": "torch"}, "torch", {"inference"}),
    ]
    for options, backend, parts in cases:
        host = await started(SHAPES, models_dir, **options)
        try:
            assert host.described["backend"] == backend
            assert host.described["promptable"] is False
            (caption,) = await said(host, picture, max_new_tokens=64)
            assert "red square in the center on a light background" in caption
            header = (await host.run(wishes(max_new_tokens=64), body(picture))).header
            assert header["seconds"].keys() == parts
            assert 0 < header["seconds"]["inference"] < 60
            assert header.get("tokens", 11) >= len(caption.split())
        finally:
            await host.stop()


async def test_an_export_follows_no_prompts_and_captions_nothing_for_nothing(models_dir: Path) -> None:
    host = await started(SHAPES, models_dir)
    try:
        answer = await host.run(wishes(prompt="What is this?"), body(*probes.pictures()[:1]))
        assert answer.header == {"refused": "prompt"}
        assert await said(host) == []
    finally:
        await host.stop()


@pytest.mark.parametrize("backend", ["openvino", "torch"])
async def test_a_caption_is_no_longer_than_the_model_can_count(made: Path, models_dir: Path, backend: str) -> None:
    host = await started(made / "blip", models_dir, backend=backend, precision="float32")
    try:
        longest = await said(host, probes.pictures()[0], max_new_tokens=512)
        assert len(longest[0].split()) > 400
        assert await said(host, probes.pictures()[0], max_new_tokens=1024) == longest
    finally:
        await host.stop()


async def test_pictures_of_a_few_pixels_are_the_same_for_both_engines(models_dir: Path) -> None:
    """One of three rows of pixels could be taken for one of three channels."""
    dice = np.random.default_rng(1)
    shapes = [(1, 100), (3, 100), (100, 1), (2, 50), (1, 1), (3, 3)]
    pictures = [dice.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in shapes]
    captions = []
    for backend in ("openvino", "torch"):
        host = await started(SHAPES, models_dir, backend=backend, precision="float32")
        try:
            captions.append([(await said(host, picture))[0] for picture in pictures])
        finally:
            await host.stop()
    assert captions[0] == captions[1]


async def test_many_pictures_and_beams_are_each_their_own(models_dir: Path) -> None:
    """More than are followed at a time."""
    host = await started(SHAPES, models_dir, precision="float32")
    try:
        pictures = probes.pictures() * 4
        expected = [(await said(host, picture, num_beams=5))[0] for picture in probes.pictures()] * 4
        assert await said(host, *pictures, num_beams=5) == expected
    finally:
        await host.stop()


async def test_a_deadline_cuts_a_caption_short(made: Path, models_dir: Path) -> None:
    host = await started(made / "blip", models_dir, precision="float32", run_seconds=-1.0)
    try:
        (caption,) = await said(host, *probes.pictures()[:1], max_new_tokens=30)
        assert caption == "[DEC] word1", "what it begins with, and one word"
    finally:
        await host.stop()


async def test_promptable_models_stay_on_torch_and_say_why(made: Path, models_dir: Path) -> None:
    host = await started(made / "llava", models_dir)
    try:
        assert host.described["backend"] == "torch"
        assert host.described["backend_reason"] == "only models of the BLIP family are exported"
        assert not places.exports(str(made / "llava"), models_dir).exists()
    finally:
        await host.stop()
    with pytest.raises(HostLoadFailed, match="backend openvino was asked for, but only models of the BLIP family"):
        await started(made / "llava", models_dir, backend="openvino")


def changed(model: Path, file: str, *, inside: str | None = None, **changes: Any) -> None:
    """Change settings in one of a model's files, or in a section of it."""
    settings = json.loads((model / file).read_text())
    (settings[inside] if inside else settings).update(changes)
    (model / file).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config.json", {"inside": "text_config", "min_new_tokens": 5}, "it generates by min_new_tokens"),
        ("preprocessor_config.json", {"do_normalize": False}, "its preprocessing is another than BLIP's"),
        ("preprocessor_config.json", {"size": {"height": 48, "width": 96}}, "its preprocessing is another than BLIP's"),
    ],
)
async def test_what_an_export_would_not_do_is_left_to_torch(
    tmp_path: Path, file: str, change: dict[str, Any], reason: str
) -> None:
    model = shutil.copytree(SHAPES, tmp_path / "model")
    changed(model, file, **change)
    host = await started(model, tmp_path)
    await host.stop()
    assert host.described["backend"] == "torch"
    assert host.described["backend_reason"] == reason


OLD_SETTINGS: dict[str, Any] = {
    "add_cross_attention": False,
    "bad_words_ids": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "forced_eos_token_id": None,
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_scores": False,
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict_in_generate": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
}
"""What transformers wrote into every configuration in 2022, when the models of the BLIP family were published."""


async def test_models_saved_by_old_versions_are_exported_and_read_as_transformers_reads_them(tmp_path: Path) -> None:
    model = shutil.copytree(SHAPES, tmp_path / "model")
    (model / "generation_config.json").unlink()
    changed(model, "config.json", **OLD_SETTINGS)
    for section in ("text_config", "vision_config"):
        changed(model, "config.json", inside=section, **OLD_SETTINGS)
    changed(model, "tokenizer_config.json", clean_up_tokenization_spaces=True)
    host = await started(model, tmp_path)
    try:
        assert host.described["backend"] == "openvino"
        assert host.described.get("backend_reason") is None
        assert "red circle" in (await said(host, probes.pictures()[1]))[0]
    finally:
        await host.stop()


def test_spaces_are_taken_out_of_a_caption_as_transformers_does_it() -> None:
    words = ["[UNK]", "a", "man", "'", "s", "hand", ",", ".", "?", "don", "t", "n't"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=True)
    captions = np.random.default_rng(5).integers(0, len(words), (300, 9)).tolist()
    assert read_aloud(tokenizer, captions, tidy=True) == wrapped.batch_decode(captions)
    wrapped.clean_up_tokenization_spaces = False
    assert read_aloud(tokenizer, captions, tidy=False) == wrapped.batch_decode(captions)


@pytest.mark.parametrize("file", ["vision.xml", "decoder-int8.bin", "tokenizer.json"])
async def test_a_damaged_export_costs_no_caption(models_dir: Path, file: str) -> None:
    await (await started(SHAPES, models_dir)).stop()
    (folder,) = (path for path in places.exports(str(SHAPES), models_dir).iterdir() if path.is_dir())
    (folder / file).write_bytes(b"")
    host = await started(SHAPES, models_dir)
    try:
        assert "damaged" in host.described["backend_reason"]
        assert await said(host, *probes.pictures()[:1])
    finally:
        await host.stop()
    assert not folder.exists(), "the next load makes it anew"


@pytest.mark.parametrize(("as_likely", "reason"), [(0.9, None), (1.1, "its export is not exact enough")])
def test_an_export_reaches_nobody_and_one_that_says_something_else_is_not_kept(
    tmp_path: Path, as_likely: float, reason: str | None
) -> None:
    folder = tmp_path / "export"
    module = "homelab_ai.captioning.engines.export"
    printed, about = exports.made(module, SHAPES, folder, module, AS_LIKELY=as_likely)
    assert "float32: least likelihood of a word 1.0" in printed
    assert about["reason"] == reason
    if reason:
        assert [path.name for path in folder.iterdir()] == ["export.json"]
    else:
        assert about["precisions"]["float32"] == 1
