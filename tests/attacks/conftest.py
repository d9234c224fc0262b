"""What every attack meets: the villain, the secret, and the service between them."""

from collections.abc import AsyncIterator

import pytest

from support.villain import World, world


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for all, because they share a browser."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[World]:
    async with world() as opened:
        yield opened


@pytest.fixture
def home(shared: World) -> World:
    """The world of all attacks, in which nothing has happened yet."""
    shared.begin_anew()
    return shared
