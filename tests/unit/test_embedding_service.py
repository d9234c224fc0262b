"""The embedding service: whatever the list of texts, each gets its own vector, or the request a plain answer."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from homelab_ai.embedding.service import EmbeddingService
from homelab_ai.errors import Conflict, InferenceFailed, InvalidRequest, ModelNotFound, RequestTimeout
from homelab_ai.models.catalogue import Catalogue, Model
from homelab_ai.models.hosts.host import Answer, RunFailed
from homelab_ai.models.job_queue import Format, Lane
from homelab_ai.models.registry import LocalModels
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import DIMENSIONS, FakeHost, FakeHosts, vector_of

pytestmark = pytest.mark.anyio


def service_over(hosts: FakeHosts, **sections: object) -> EmbeddingService:
    settings = Settings.model_validate({"batching": {"window_ms": 0}, **sections})
    return EmbeddingService(LocalModels(settings, {"text_embedding": "an.engine"}, hosts, clock=Clock()), settings)


@pytest.fixture
def service(hosts: FakeHosts) -> EmbeddingService:
    return service_over(hosts)


async def test_each_text_gets_its_own_vector(service: EmbeddingService, hosts: FakeHosts) -> None:
    texts = [f"text {n}" for n in range(300)]
    result = await service.embed(texts, service.choose(None))
    assert np.array_equal(result.matrix, np.array([vector_of(text) for text in texts], dtype=np.float32))
    assert (result.model_id, result.dimensions, result.truncated) == ("minilm", DIMENSIONS, [])
    assert result.matrix.dtype == np.float32
    assert [text for run in hosts.started[0].runs for text in run] == texts


async def test_cut_texts_are_told_by_their_place_in_the_request(service: EmbeddingService, hosts: FakeHosts) -> None:
    texts = [f"short {n}" for n in range(300)]
    cut = [0, 31, 32, 299]
    for position in cut:
        texts[position] = "l" * (1001 + position % 2)
    result = await service.embed(texts, service.choose(None))
    assert len(hosts.started[0].runs) > 1
    assert result.truncated == cut


async def test_a_text_on_which_the_engine_fails_is_named_and_its_words_are_not(
    service: EmbeddingService, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(texts: list[str]) -> Exception | None:
        return RunFailed("RuntimeError", "Traceback: where it was") if "poison" in texts else None

    hosts.prepare = lambda host: setattr(host, "on_run", fail)
    with pytest.raises(InferenceFailed) as raised:
        await service.embed(["a", "poison", "b", "poison"], service.choose(None))
    assert "texts[1]" in raised.value.message
    assert "RuntimeError" in raised.value.message
    assert "poison" not in raised.value.message
    assert raised.value.details == {"model_id": "minilm", "texts": [1, 3]}
    assert len((await service.embed(["a", "b"], service.choose(None))).matrix) == 2


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
    async def lease(self, model: Model, timing: Timing | None = None) -> AsyncIterator["Fixed"]:
        yield self

    def preparing(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def describe(self) -> dict[str, Any]:
        return {"fingerprint": "0123456789abcdef"}

    async def run(
        self, form: Format, options: dict[str, Any], items: Sequence[Hashable], *, lane: Lane = "interactive"
    ) -> list[Any]:
        matrix = np.array([self._row for _ in items], dtype=np.float32)
        return [*form.unpack(Answer({"shape": matrix.shape, "truncated": []}, matrix.tobytes()), len(items))]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("count", [1, 33])
async def test_vectors_that_are_not_finite_are_an_error(number: float, count: int) -> None:
    service = EmbeddingService(Fixed(0.0, number), Settings())
    with pytest.raises(InferenceFailed, match="not finite"):
        await service.embed(["a"] * count, service.choose(None))


async def test_vectors_that_do_not_belong_together_are_not_given() -> None:
    service = EmbeddingService(Fixed(0.0, 1.0), Settings())
    model = service.choose(None)
    for expected in (None, "0123456789abcdef"):
        assert (await service.embed(["a"], model, expected=expected)).fingerprint == "0123456789abcdef"
    for other in ("", "0123456789ABCDEF", "x" * 1000):
        with pytest.raises(Conflict, match="do not mix them") as conflict:
            await service.embed(["a"], model, expected=other)
        assert conflict.value.details["fingerprint"] == "0123456789abcdef"
        assert conflict.value.details["expected"] == other[:64]


async def test_zeros_and_the_smallest_numbers_are_vectors() -> None:
    service = EmbeddingService(Fixed(0.0, -0.0, 1e-45, 3.4e38), Settings())
    assert (await service.embed(["a"], service.choose(None))).matrix.shape == (1, 4)


async def test_the_model_is_chosen_among_those_that_embed(service: EmbeddingService) -> None:
    assert service.choose("ALL-minilm-l6-v2").id == "minilm"
    with pytest.raises(InvalidRequest):
        service.choose("blip-base")
    with pytest.raises(ModelNotFound):
        service.choose("nothing")


TEXTS = st.lists(st.text(max_size=20) | st.integers(0, 200_000).map("x".__mul__), min_size=1, max_size=80)


@hypothesis_settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_whatever_the_list_each_row_is_the_vector_of_its_text(texts: list[str]) -> None:
    async def embed() -> None:
        hosts = FakeHosts()
        service = service_over(hosts)
        result = await service.embed(texts, service.choose(None))
        assert np.array_equal(result.matrix, np.array([vector_of(text) for text in texts], dtype=np.float32))
        assert result.truncated == [position for position, text in enumerate(texts) if len(text) > 1000]

    anyio.run(embed)
