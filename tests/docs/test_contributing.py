"""docs/contributing.md names the commands, the folders and the files that there are."""

import re

from support.server import REPOSITORY

CONTRIBUTING = (REPOSITORY / "docs" / "contributing.md").read_text()


def first_cells(head: str) -> str:
    table = CONTRIBUTING.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    return "".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE))


def test_every_command_of_make_has_its_row() -> None:
    targets = re.findall(r"^([a-z0-9]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {*re.findall(r"`make (\w+)`", first_cells("| | |"))} == {*targets} - {"help"}


def test_every_folder_of_tests_has_its_row() -> None:
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if any(path.glob("*.py"))}
    assert {*re.findall(r"`(\w+)/`", first_cells("| `tests/` | |"))} == folders


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:docs|tests|support)/[\w./]+|\w+\.(?:md|toml|txt))`", CONTRIBUTING)
    assert named
    assert not [name for name in named if not any((REPOSITORY / at / name).exists() for at in (".", "tests"))]
