"""Fixtures for tests of the registry and of the batcher."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.bench import Bench
from support.house import House


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator[Callable[..., House]]:
    async with AsyncExitStack() as stack:

        def build(**options: Any) -> House:
            house = House(tmp_path, **options)
            stack.push_async_callback(house.models.close)
            return house

        yield build


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    return houses()


@pytest.fixture
async def benches() -> AsyncIterator[Callable[..., Bench]]:
    async with AsyncExitStack() as stack:

        def build(**batching: Any) -> Bench:
            bench = Bench(**batching)
            stack.callback(bench.batcher.close)
            return bench

        yield build


@pytest.fixture
async def bench(benches: Callable[..., Bench]) -> Bench:
    return benches()
