"""What is said of deployment is true of the image and of the files that are deployed."""

import re
from pathlib import Path

import yaml

from homelab_ai.settings import load_settings
from support.server import REPOSITORY

DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text()
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def rows(title: str) -> set[str]:
    """What the first cells of the table under a title name."""
    table = DEPLOYMENT.partition(f"# {title}\n")[2].partition("\n#")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"(?<![\w.])deploy/[\w./-]+", DEPLOYMENT))
    assert named
    assert not [name for name in named if not (REPOSITORY / name.rstrip(".")).exists()]


def test_every_argument_of_the_build_is_explained_and_no_other() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert rows("What can be built") == arguments
    assert set(re.findall(r"--build-arg (\w+)=", DEPLOYMENT)) <= arguments


def test_what_is_in_the_container_is() -> None:
    named = rows("A container") - {"HOMELAB_AI__..."}
    entrypoint = (REPOSITORY / "deploy" / "image" / "entrypoint").read_text()
    variables = {name for name in named if not name.startswith("/")}
    assert variables == {"PUID", "PGID", "UMASK", "TZ"}
    assert all(f"${{{name}:=" in entrypoint for name in variables - {"TZ"})
    assert {name for name in named if name.startswith("/")} == {"/app/config.yaml", "/app/data", "/app/models"}
    assert 'VOLUME ["/app/data", "/app/models"]' in DOCKERFILE
    given = re.findall(r"(HOMELAB_AI__\w+)=(\w+)", DEPLOYMENT)
    assert given
    load_settings(None, dict(given))


def test_the_keys_that_it_shows_can_be_used(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(# api_keys.yaml.*?)```", DEPLOYMENT, re.DOTALL)
    (tmp_path / "keys").write_text(shown)
    settings = load_settings(None, {"HOMELAB_AI__SECURITY__API_KEYS_FILE": str(tmp_path / "keys")})
    assert [key.name for key in settings.security.api_keys] == [entry["name"] for entry in yaml.safe_load(shown)]
