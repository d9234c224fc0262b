"""`make lint` must fail on a violation of each of its tools; else a green lint proves nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
TREE = ("Makefile", "pyproject.toml", "README.md", "main.py", "src", "tests", "benchmarks", "demo", "docs", "scripts")

pytestmark = [
    pytest.mark.timeout(300),  # mypy's first run reads every library
    pytest.mark.skipif(
        not shutil.which("make") or not (TOOLS / "lint-imports").exists(), reason="make and the lint tools are not here"
    ),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what is linted, with this interpreter's tools and what mypy knows already."""
    copy = tmp_path_factory.mktemp("lint") / "tree"
    (copy / ".venv").mkdir(parents=True)
    (copy / ".venv" / "bin").symlink_to(TOOLS)
    for name in (*TREE, ".mypy_cache"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy)
    return copy


def lint(tree: Path) -> tuple[int, str]:
    """Run `make lint` in the copy, without the set-up; return its exit status and all that it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "RUFF_", "MYPY"))}
    done = subprocess.run(
        ["make", "lint", "SETUP=:"], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def untouched(tree: Path) -> tuple[int, str]:
    return lint(tree)


def test_the_untouched_tree_passes(untouched: tuple[int, str]) -> None:
    status, said = untouched
    assert status == 0, said


@pytest.mark.parametrize(
    ("name", "code", "complaint"),
    [
        pytest.param("violation.py", "import os\n", "F401", id="ruff"),
        pytest.param("violation.py", "NUMBERS = [1,\n    2]\n", "reformatted", id="format"),
        pytest.param(
            "violation.py",
            '\ndef count(items: list) -> int:\n    """Count."""\n    return len(items)\n',
            "[type-arg]",  # which only --strict reports
            id="mypy",
        ),
        pytest.param(
            "violation.py",
            "import torch\n\nDEVICES = torch.cuda.device_count()\n",
            "homelab_ai.violation -> torch",
            id="machine-learning-library",
        ),
        pytest.param(
            "models/violation.py",
            "from homelab_ai import cli\n\nMAIN = cli.main\n",
            "homelab_ai.models.violation -> homelab_ai.cli",
            id="upward-import",
        ),
    ],
)
def test_a_violation_fails(tree: Path, untouched: tuple[int, str], name: str, code: str, complaint: str) -> None:
    if untouched[0]:
        pytest.skip("the tree fails by itself")
    violation = tree / "src" / "homelab_ai" / name
    violation.write_text(f'"""A deliberate violation."""\n\n{code}')
    try:
        status, said = lint(tree)
    finally:
        violation.unlink()
    assert status != 0, said
    assert complaint in said
