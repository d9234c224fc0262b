"""The image, built once; where there is no engine for containers, its tests are skipped."""

import os

import pytest

from support.container import Engine

IMAGE = "homelab-ai-api:e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "container":
            item.add_marker(pytest.mark.timeout(1800))  # the first of them builds the image


@pytest.fixture(scope="session")
def engine() -> Engine:
    command = os.environ.get("CONTAINER_ENGINE")
    if not command:
        pytest.skip("CONTAINER_ENGINE is not set: `make e2e` runs the tests of the container, in some minutes")
    engine = Engine(command)
    if why := engine.why_not():
        pytest.skip(f"no container can be started: {why}")
    return engine


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    formats = ("--format", "docker") if "buildah" in engine.run("info").stdout else ()  # else HEALTHCHECK is lost
    engine.run("build", *formats, "--tag", IMAGE, ".")
    return IMAGE
