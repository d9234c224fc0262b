"""Fixtures that every folder of tests may use."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from support.hosts import FakeHosts


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on the event loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def hosts() -> FakeHosts:
    """The model hosts that `client` works with."""
    return FakeHosts()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The default settings with folders of their own, open to this machine."""
    return Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "models_dir": tmp_path / "models",
            "security": {"allow_localhost": True},
            "crawl": {"enabled": False},  # what requests are made up must not have anything fetched from anywhere
        }
    )


@pytest.fixture
def client(settings: Settings, hosts: FakeHosts) -> Iterator[TestClient]:
    """The whole service in this process, over fake hosts, called from loopback without a key."""
    app = create_app(settings, start_host=hosts)
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)) as client:
        yield client


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the service logs, whatever other tests have done to its loggers."""
    logger = logging.getLogger("homelab_ai")
    level, propagates = logger.level, logger.propagate
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # or each line is there twice
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
    logger.propagate = propagates
