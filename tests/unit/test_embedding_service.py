"""The embedding service: whatever the list of texts, each gets its own vector, or the request a plain answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from homelab_ai.embedding import service as module
from homelab_ai.embedding.service import EmbeddingService
from homelab_ai.errors import InferenceFailed, InvalidRequest, ModelNotFound, RequestTimeout
from homelab_ai.models.catalogue import Catalogue, Model
from homelab_ai.models.host import Answer
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import DIMENSIONS, FakeHost, FakeHosts, vector_of

pytestmark = pytest.mark.anyio

PER_RUN, CHARACTERS = module._TEXTS_PER_RUN, module._CHARACTERS_PER_RUN


def service_over(hosts: FakeHosts, **sections: object) -> EmbeddingService:
    settings = Settings.model_validate(sections)
    return EmbeddingService(LocalModels(settings, {"text_embedding": "an.engine"}, hosts, clock=Clock()), settings)


@pytest.fixture
def service(hosts: FakeHosts) -> EmbeddingService:
    return service_over(hosts)


async def test_each_text_gets_its_own_vector(service: EmbeddingService, hosts: FakeHosts) -> None:
    texts = [f"text {n}" for n in range(3 * PER_RUN + 1)]
    result = await service.embed(texts, service.choose(None))
    assert result.matrix.tolist() == [vector_of(text) for text in texts]
    assert (result.model_id, result.dimensions, result.truncated) == ("minilm", DIMENSIONS, [])
    assert result.matrix.dtype == np.float32
    assert [len(run) for run in hosts.started[0].runs] == [PER_RUN, PER_RUN, PER_RUN, 1]


HALF = "h" * (CHARACTERS // 2)
HUGE = "x" * (3 * CHARACTERS)
CUTS: dict[str, tuple[list[str], list[int]]] = {
    "one": (["a"], [1]),
    "one empty": ([""], [1]),
    "a full run": (["a"] * PER_RUN, [PER_RUN]),
    "one more than a full run": (["a"] * (PER_RUN + 1), [PER_RUN, 1]),
    "exactly the characters of a run": ([HALF, HALF], [2]),
    "one character more": ([HALF, HALF, "a"], [2, 1]),
    "no character more": ([HALF, HALF, ""], [3]),
    "huge alone": ([HUGE], [1]),
    "huge first": ([HUGE, "a", "b"], [1, 2]),
    "huge in between": (["a", HUGE, "b"], [1, 1, 1]),
    "huge last": (["a", "b", HUGE], [2, 1]),
    "huge next to huge": ([HUGE, HUGE], [1, 1]),
    "after huge an empty one": ([HUGE, "", "a"], [1, 2]),
}


@pytest.mark.parametrize(("texts", "sizes"), CUTS.values(), ids=CUTS)
async def test_a_list_is_cut_into_runs_by_count_and_by_characters(
    service: EmbeddingService, hosts: FakeHosts, texts: list[str], sizes: list[int]
) -> None:
    result = await service.embed(texts, service.choose(None))
    runs = hosts.started[0].runs
    assert [len(run) for run in runs] == sizes
    assert [text for run in runs for text in run] == texts
    assert result.matrix.shape == (len(texts), DIMENSIONS)


async def test_cut_texts_are_told_by_their_place_in_the_request(service: EmbeddingService, hosts: FakeHosts) -> None:
    texts = ["short"] * (2 * PER_RUN + 2)
    cut = [0, PER_RUN - 1, PER_RUN, 2 * PER_RUN + 1]
    for position in cut:
        texts[position] = "l" * 1001
    result = await service.embed(texts, service.choose(None))
    assert len(hosts.started[0].runs) > 2
    assert result.truncated == cut


async def test_no_text_and_too_many_are_refused_before_anything_is_loaded(hosts: FakeHosts) -> None:
    service = service_over(hosts, limits={"max_texts": 3})
    for texts in ([], ["a"] * 4):
        with pytest.raises(InvalidRequest) as raised:
            await service.embed(texts, service.choose(None))
        assert raised.value.details["errors"][0]["field"] == "texts"
    assert hosts.started == []
    assert len((await service.embed(["a"] * 3, service.choose(None))).matrix) == 3


async def test_an_answer_that_takes_too_long_is_given_up(hosts: FakeHosts) -> None:
    service = service_over(hosts, resources={"request_timeout_seconds": 0.01})

    def never(host: FakeHost) -> None:
        host.busy = asyncio.Event()

    hosts.prepare = never
    with pytest.raises(RequestTimeout) as raised:
        await service.embed(["a"], service.choose(None))
    assert raised.value.details == {"model_id": "minilm", "timeout_seconds": 0.01}
    assert "0.01 s" in raised.value.message


async def test_a_load_that_takes_too_long_is_given_up_but_goes_on(hosts: FakeHosts) -> None:
    service = service_over(hosts, resources={"request_timeout_seconds": 0.01})
    hosts.starting = asyncio.Event()
    with pytest.raises(RequestTimeout):
        await service.embed(["a"], service.choose(None))
    hosts.starting.set()
    await service.embed(["a"], service.choose(None))
    assert len(hosts.started) == 1


async def test_a_caller_that_is_cancelled_is_cancelled_and_not_timed_out(
    service: EmbeddingService, hosts: FakeHosts
) -> None:
    hosts.starting = asyncio.Event()
    embedding = asyncio.create_task(service.embed(["a"], service.choose(None)))
    await asyncio.sleep(0)
    embedding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await embedding
    hosts.starting.set()
    await service.embed(["a"], service.choose(None))


class Fixed:
    """Models that give every text the same numbers."""

    def __init__(self, *numbers: float) -> None:
        self.catalogue = Catalogue(Settings().models)
        self._row = numbers

    @asynccontextmanager
    async def lease(self, model: Model) -> AsyncIterator["Fixed"]:
        yield self

    async def run(self, options: dict[str, Any], body: bytes) -> Answer:
        matrix = np.array([self._row for _ in orjson.loads(body)], dtype=np.float32)
        return Answer({"shape": matrix.shape, "truncated": []}, matrix.tobytes())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("count", [1, PER_RUN + 1])
async def test_vectors_that_are_not_finite_are_an_error(number: float, count: int) -> None:
    service = EmbeddingService(Fixed(0.0, number), Settings())
    with pytest.raises(InferenceFailed, match="not finite"):
        await service.embed(["a"] * count, service.choose(None))


async def test_zeros_and_the_smallest_numbers_are_vectors() -> None:
    service = EmbeddingService(Fixed(0.0, -0.0, 1e-45, 3.4e38), Settings())
    assert (await service.embed(["a"], service.choose(None))).matrix.shape == (1, 4)


async def test_the_model_is_chosen_among_those_that_embed(service: EmbeddingService) -> None:
    assert service.choose("ALL-minilm-l6-v2").id == "minilm"
    with pytest.raises(InvalidRequest):
        service.choose("blip-base")
    with pytest.raises(ModelNotFound):
        service.choose("nothing")


TEXTS = st.lists(st.text(max_size=20) | st.integers(0, 2 * CHARACTERS).map("x".__mul__), min_size=1, max_size=80)


@hypothesis_settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_whatever_the_list_each_row_is_the_vector_of_its_text(texts: list[str]) -> None:
    async def embed() -> None:
        service = service_over(hosts)
        result = await service.embed(texts, service.choose(None))
        assert result.matrix.tolist() == [vector_of(text) for text in texts]
        assert result.truncated == [position for position, text in enumerate(texts) if len(text) > 1000]

    hosts = FakeHosts()
    anyio.run(embed)
    runs = hosts.started[0].runs
    assert [text for run in runs for text in run] == texts
    assert all(len(run) == 1 or sum(map(len, run)) <= CHARACTERS for run in runs)
    assert all(1 <= len(run) <= PER_RUN for run in runs)
