"""The real all-MiniLM-L6-v2 through `EmbeddingService`: the vectors are those of sentence-transformers."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
import pytest
from tokenizers import Tokenizer

from homelab_ai.embedding.service import ENGINE, Embeddings, EmbeddingService
from homelab_ai.errors import ModelLoadFailed
from homelab_ai.models.registry import LocalModels
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings
from support import exports
from support.reference import MINILM, TEXTS, cosines, vectors_of_texts

pytestmark = pytest.mark.anyio

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddingService]:
    folder = tmp_path_factory.mktemp("minilm")
    entries: list[dict[str, Any]] = [
        {"id": "minilm", "hf_model": HUB_NAME, "dimensions": 384, "default": True},
        {"id": "short", "hf_model": HUB_NAME, "max_length": 64, "precision": "bfloat16"},
        {"id": "exact", "hf_model": HUB_NAME, "precision": "float32"},
        {"id": "torch", "hf_model": HUB_NAME, "backend": "torch"},
        {"id": "wrong", "hf_model": HUB_NAME, "dimensions": 385},
    ]
    settings = Settings.model_validate(
        {"data_dir": folder / "data", "models_dir": folder / "models", "models": {"text_embedding": entries}}
    )
    exports.lend(settings.models_dir)
    models = LocalModels(settings, {"text_embedding": ENGINE}, clock=asyncio.get_running_loop())
    yield EmbeddingService(models, settings)
    await models.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def of_tokens(count: int, tokenizer: Tokenizer) -> str:
    """A text of that many tokens, the two special ones included."""
    words = ["cat", "dog", "house", "tree", "river", "stone", "bread", "light"]
    text = " ".join(words[number % len(words)] for number in range(count - 2))
    assert len(tokenizer.encode(text).ids) == count
    return text


async def embed(service: EmbeddingService, texts: list[str], model: str = "minilm") -> Embeddings:
    return await service.embed(texts, service.choose(model))


@pytest.mark.parametrize("model", ["minilm", "torch"])
async def test_it_is_said_where_the_time_went(service: EmbeddingService, model: str) -> None:
    timing = Timing()
    await service.embed(TEXTS, service.choose(model), timing=timing)
    for part in ("tokenize", "inference"):
        assert 0 < timing.parts[part] < 60


def test_the_packaged_weights_are_the_original_ones() -> None:
    with (MINILM / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()

    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


async def test_vectors_are_those_of_sentence_transformers(service: EmbeddingService, tokenizer: Tokenizer) -> None:
    ours = await embed(service, TEXTS)

    assert ours.model_id == "minilm"
    assert ours.dimensions == 384
    assert ours.matrix.dtype == np.float32
    assert ours.matrix.shape == (len(TEXTS), 384)
    assert cosines(ours.matrix, vectors_of_texts()).min() >= 0.9999
    assert np.linalg.norm(ours.matrix, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-4)
    assert ours.truncated == [position for position, text in enumerate(TEXTS) if len(tokenizer.encode(text).ids) > 256]


async def test_a_vector_does_not_depend_on_its_neighbours(service: EmbeddingService) -> None:
    texts = [f"{number} " + "and some more words " * (number % 23) for number in range(70)] + TEXTS[:19]
    shuffled = random.Random(7).sample(range(len(texts)), len(texts))

    in_order = (await embed(service, texts)).matrix
    out_of_order = (await embed(service, [texts[position] for position in shuffled])).matrix
    alone = [(await embed(service, [texts[position]])).matrix[0] for position in range(0, len(texts), 10)]

    assert cosines(out_of_order, in_order[shuffled]).min() >= 0.99999
    assert cosines(alone, in_order[::10]).min() >= 0.99999


async def test_the_same_text_twice_has_the_same_vector(service: EmbeddingService) -> None:
    matrix = (await embed(service, ["twice", "something much longer in between, to be sorted first", "twice"])).matrix

    assert np.array_equal(matrix[0], matrix[2])


async def test_truncated_is_exact_at_the_edge_of_the_window(service: EmbeddingService, tokenizer: Tokenizer) -> None:
    lengths = [257, 254, 255, 256, 300, 257, 2]
    result = await embed(service, [of_tokens(length, tokenizer) for length in lengths])

    assert result.truncated == [0, 4, 5]
    # What was cut is the end, and nothing but the end.
    assert cosines(result.matrix[[0, 4, 5]], result.matrix[[3, 3, 3]]).min() >= 0.99999
    assert cosines(result.matrix[[2]], result.matrix[[3]])[0] < 0.99999


async def test_positions_of_cut_texts_count_over_a_long_list(service: EmbeddingService, tokenizer: Tokenizer) -> None:
    long, short = of_tokens(257, tokenizer), "short"
    texts = [long if position in (0, 31, 32, 70) else short for position in range(71)]

    assert (await embed(service, texts)).truncated == [0, 31, 32, 70]


async def test_a_text_of_a_megabyte_is_read_as_far_as_the_window_goes(service: EmbeddingService) -> None:
    sentence = "All work and no play makes Jack a dull boy. "
    result = await embed(service, [sentence * (1_000_000 // len(sentence)), sentence * 100, "x" * 1_000_000])

    assert result.truncated[:2] == [0, 1]
    assert cosines(result.matrix[[0]], result.matrix[[1]])[0] >= 0.99999


async def test_a_text_without_end_costs_no_more_than_a_long_one(service: EmbeddingService) -> None:
    await embed(service, ["warm"])
    host = service._models._slots["minilm"].resident.host  # type: ignore[attr-defined]
    before = psutil.Process(host.pid).memory_info().rss

    book, page = "a b c d " * 4_000_000, "a b c d " * 100
    result = await embed(service, [book, page, " " * 16_000_000 + "end", "x" * 16_000_000])

    assert result.truncated == [0, 1, 2, 3]
    assert cosines(result.matrix[[0]], result.matrix[[1]])[0] >= 0.99999
    assert psutil.Process(host.pid).memory_info().rss - before < 700_000_000


async def test_max_length_and_precision_are_obeyed(service: EmbeddingService, tokenizer: Tokenizer) -> None:
    lengths = [63, 64, 65, 256]
    texts = [*TEXTS[:18], *(of_tokens(length, tokenizer) for length in lengths)]
    short = await embed(service, texts, "short")
    whole = await embed(service, texts, "exact")

    counted = [len(tokenizer.encode(text).ids) for text in texts]
    assert short.truncated == [position for position, count in enumerate(counted) if count > 64]
    assert short.matrix.dtype == np.float32
    assert cosines(short.matrix[:20], whole.matrix[:20]).min() > 0.99
    assert cosines(short.matrix[:20], whole.matrix[:20]).min() < 0.9999999, "this is float32, not bfloat16"
    assert cosines(short.matrix[[-1]], short.matrix[[-3]])[0] > 0.999


async def test_every_backend_and_precision_gives_the_same_vectors(service: EmbeddingService) -> None:
    expected = vectors_of_texts()
    for model, least in (("minilm", 0.9999), ("exact", 0.99999), ("torch", 0.99999)):
        result = await embed(service, TEXTS, model)
        assert cosines(result.matrix, expected).min() >= least
        assert result.truncated == (await embed(service, TEXTS)).truncated
    described = {name: service._models._slots[name].described for name in ("exact", "torch")}  # type: ignore[attr-defined]
    assert {name: (said["backend"], said["precision"]) for name, said in described.items()} == {
        "exact": ("openvino", "float32"),
        "torch": ("torch", "float32"),
    }


async def test_dimensions_that_the_model_does_not_have_are_refused(service: EmbeddingService) -> None:
    with pytest.raises(ModelLoadFailed) as failure:
        await embed(service, ["a"], "wrong")

    assert "385" in failure.value.message
    assert "384" in failure.value.message
    assert failure.value.details == {"model_id": "wrong"}
