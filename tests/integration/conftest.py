"""Fixtures for tests with real host processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import homelab_ai

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _hosts_find_the_tests() -> Iterator[None]:
    """Let hosts import the engines of the tests, and keep every model of this machine on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(Path(homelab_ai.__file__).parents[1])]))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
