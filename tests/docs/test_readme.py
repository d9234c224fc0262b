"""What the README promises, done word for word against a running service."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI

from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from support.server import REPOSITORY, Server

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("readme")) as server:
        yield server


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings())


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_first_curl_returns_384_numbers_shaped_as_shown(server: Server) -> None:
    command = next(block for block in blocks("bash") if block.startswith("curl"))
    shown = next(block for block in blocks("json") if "embeddings" in block)

    answer = json.loads(
        subprocess.run(
            ["bash", "-c", command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    )

    assert len(answer["embeddings"][0]) == 384
    numbers = re.search(r"\[\[(.*), \.\.\.\]\]", shown)
    assert numbers
    assert [float(number) for number in numbers[1].split(",")] == pytest.approx(answer["embeddings"][0][:3], abs=2e-3)
    assert list(answer) == re.findall(r'"(\w+)":', shown)


def test_the_configuration_shown_is_valid() -> None:
    (shown,) = blocks("yaml")
    Settings.model_validate(yaml.safe_load(shown))


def test_every_path_that_it_names_is_served(app: FastAPI) -> None:
    named = set(re.findall(r"`(GET|POST|PATCH|DELETE) ([^`]+)`", README))
    served = {
        (method.upper(), path.replace("{model_id}", "{id}"))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    assert named - {("GET", "/docs"), ("GET", "/admin/")} == served


def test_every_command_of_make_that_it_names_exists() -> None:
    targets = re.findall(r"^([a-z0-9]+):", Path(REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"make ([a-z0-9]+)", README)) <= set(targets)


def test_every_file_that_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not link.startswith("https://") and not (REPOSITORY / link).exists()]
