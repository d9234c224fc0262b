"""docs/cli.md: every command and option that there is, and none that there is not."""

import re
from collections.abc import Iterator

import typer.main
import yaml

from homelab_ai.cli import cli
from homelab_ai.settings.example import example_configuration
from support.server import REPOSITORY

CLI = (REPOSITORY / "docs" / "cli.md").read_text()
SECTIONS = {name: text for name, _, text in (part.partition("\n") for part in CLI.split("\n## "))}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options(command: str) -> set[str]:
    """All long options of a command and of those below it."""
    return {*_options(typer.main.get_command(cli).commands[command])}  # type: ignore[attr-defined]


def _options(command: object) -> Iterator[str]:
    for parameter in getattr(command, "params", ()):
        yield from (name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--"))
    for inner in getattr(command, "commands", {}).values():
        yield from _options(inner)


def commands() -> list[str]:
    return [*typer.main.get_command(cli).commands]  # type: ignore[attr-defined]


def test_every_command_has_a_section_and_a_line_at_the_top() -> None:
    linked = re.findall(r"\[`(\w+)`\]\(#(\w+)\)", SECTIONS["# The command line"])
    assert {*commands()} == {name for name, _ in linked}
    assert all(name == section for name, section in linked)
    assert {*commands()} <= SECTIONS.keys()


def test_every_option_is_documented_and_no_other() -> None:
    everywhere = {"--help", "--url", "--json"}
    for command in commands():
        documented = {*OPTION.findall(SECTIONS[command])}
        assert options(command) - everywhere <= documented, command
        others = set().union(*(options(other) for other in commands()))
        assert documented <= (options(command) | others), command


def test_the_commands_of_groups_are_documented() -> None:
    for group in ("key", "config"):
        inner = typer.main.get_command(cli).commands[group].commands  # type: ignore[attr-defined]
        for name in inner:
            assert f"{group} {name}" in SECTIONS[group]


def test_what_config_show_is_shown_to_print_are_settings() -> None:
    (shown,) = re.findall(r"config show\n(.*?)```", SECTIONS["config"], flags=re.DOTALL)
    settings = yaml.safe_load(example_configuration())
    for section, names in yaml.safe_load(shown.replace("...\n", "")).items():
        assert names.keys() <= settings[section].keys()


def test_every_exit_status_has_its_line() -> None:
    assert re.findall(r"^\| (\d+) \|", CLI, flags=re.MULTILINE) == ["0", "1", "2", "3", "4", "130"]
