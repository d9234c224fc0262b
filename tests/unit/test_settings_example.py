"""config.example.yaml is what the tree says, and changes nothing when it is copied."""

import re
from pathlib import Path

import yaml

from homelab_ai.settings import Settings
from homelab_ai.settings.example import example_configuration
from homelab_ai.settings.loading import load_settings

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def test_the_file_is_up_to_date() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_configuration(), (
        "run: python -m homelab_ai.settings.example > config.example.yaml"
    )


def test_a_copy_of_it_means_the_defaults() -> None:
    assert load_settings(EXAMPLE, {}) == Settings()


def test_every_setting_stands_in_it() -> None:
    given = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert {name: list(section) for name, section in given.items() if isinstance(section, dict)} == {
        name: list(type(section).model_fields) for name, section in Settings() if hasattr(section, "model_fields_set")
    }


def test_lines_are_short_enough_to_read() -> None:
    assert max(map(len, example_configuration().splitlines())) <= 100


def test_reserved_settings_are_marked() -> None:
    text = " ".join(line.strip(" #") for line in example_configuration().splitlines())
    marked = re.findall(r"([a-z_]+) \(default [^)]*\): (?:(?! \(default ).)*?\(no effect in this version\)", text)
    assert marked == ["prompts"]
    assert text.count("(no effect in this version)") == 1
