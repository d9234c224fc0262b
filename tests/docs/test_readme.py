"""What the README names: routes and commands."""

import re
from pathlib import Path

from homelab_ai.app import create_app
from homelab_ai.settings import Settings
from support.server import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def test_every_path_that_it_names_is_served() -> None:
    named = set(re.findall(r"`(GET|POST|PATCH|DELETE) ([^`]+)`", README))
    served = {
        (method.upper(), path.replace("{model_id}", "{id}"))
        for path, methods in create_app(Settings()).openapi()["paths"].items()
        for method in methods
    }
    assert named
    assert named <= served


def test_every_command_of_make_that_it_names_exists() -> None:
    targets = re.findall(r"^([a-z0-9]+):", Path(REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"make ([a-z0-9]+)", README)) <= set(targets)
