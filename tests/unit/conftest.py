"""Fixtures for tests of the registry."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

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
