"""docs/configuration.md is what the tree says, and what it says can be done."""

import re
from pathlib import Path

import pytest
import yaml

from homelab_ai.settings import Settings, load_settings
from homelab_ai.settings.loading import ConfigurationError
from homelab_ai.settings.reference import reference
from homelab_ai.settings.source import is_live
from homelab_ai.settings.walk import walk

REFERENCE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^##+ ([a-z_]+(?:\.[a-z_]+)?)\n(.*?)(?=^##|\Z)", reference(), flags=re.DOTALL | re.MULTILINE))
"""What is said of each setting and section, by its name."""
SETTINGS = {name: part for name, part in PARTS.items() if "- Variable: " in part}


def variable(name: str) -> str:
    (found,) = re.findall(r"^- Variable: `(.*)`$", SETTINGS[name], flags=re.MULTILINE)
    return str(found)


def refusal(name: str, value: str) -> str:
    try:
        load_settings(Path("/dev/null"), {variable(name): value})
    except ConfigurationError as error:
        return str(error)
    return ""


def test_the_file_is_up_to_date() -> None:
    assert reference() == REFERENCE, "run: python -m homelab_ai.settings.reference > docs/configuration.md"


def test_every_setting_stands_in_it() -> None:
    assert [*PARTS] == [".".join(map(str, setting.place)) for setting in walk()]
    assert len(SETTINGS) > 40


def test_a_variable_with_the_default_that_is_shown_changes_nothing() -> None:
    shown = {name: re.search(r"^- Default: `(.*)`$", part, flags=re.MULTILINE) for name, part in SETTINGS.items()}
    given = {variable(name): found[1].replace("''", "") for name, found in shown.items() if found}
    assert SETTINGS.keys() - shown.keys() <= {"models.image_caption", "models.text_embedding"}
    assert load_settings(Path("/dev/null"), given) == Settings()


@pytest.mark.parametrize("name", [name for name, part in SETTINGS.items() if "\n- Value: " in part])
def test_what_it_expects_is_what_a_mistake_is_answered_with(name: str) -> None:
    (expected,) = re.findall(r"^- Value: (.*)$", SETTINGS[name], flags=re.MULTILINE)
    phrase = expected.removeprefix("a list; each entry: ").removesuffix(", or null")
    # Of texts, [[]] may be one.
    assert f"expected {phrase}" in refusal(name, "[[]]") + refusal(name, "\0")


@pytest.mark.parametrize("name", SETTINGS)
def test_it_says_what_needs_a_restart(name: str) -> None:
    assert ("- Takes effect: **without a restart**\n" in SETTINGS[name]) is is_live(name)
    assert ("- Takes effect: with the next start\n" in SETTINGS[name]) is not is_live(name)


def test_what_it_shows_can_be_used(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(server:.*?)```", REFERENCE, flags=re.DOTALL)
    Settings.model_validate(yaml.safe_load(shown))
    (shown,) = re.findall(r"```bash\n(HOMELAB_AI.*?)```", REFERENCE, flags=re.DOTALL)
    given = {name: value.strip("'") for name, _, value in (line.partition("=") for line in shown.splitlines())}
    (secret,) = re.findall(r"`(HOMELAB_AI\w+_FILE)=/run/secrets/redis`", REFERENCE)
    (tmp_path / "redis").write_text("redis://127.0.0.1:6379/0\n")
    settings = load_settings(Path("/dev/null"), {**given, secret: str(tmp_path / "redis")})
    assert settings.server.port == 8001
    assert len(settings.security.ip_allowlist) == 2
    assert settings.security.rate_limit_url == "redis://127.0.0.1:6379/0"
