"""Fixtures for tests with real host processes."""

import logging
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


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the service logs, whatever other tests have done to its loggers."""
    logger = logging.getLogger("homelab_ai")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
