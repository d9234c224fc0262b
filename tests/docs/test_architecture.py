"""The map of the house names every room that there is, and no other."""

import re

from support.server import REPOSITORY

PACKAGE = REPOSITORY / "src" / "homelab_ai"
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()


def test_the_table_of_rooms_names_what_is_there() -> None:
    table = ARCHITECTURE.partition("## Rooms")[2].partition("## ")[0]
    first_cells = "".join(re.findall(r"^\| (`[^|]*)\|", table, flags=re.MULTILINE))
    named = {name.rstrip("/") for name in re.findall(r"`([^`]+)`", first_cells)} - {"main.py"}
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in ("__init__", "py")
    }
    within = {name for name in named if "/" in name}
    assert named - within == there
    assert [name for name in within if not (PACKAGE / name / "__init__.py").exists()] == []
