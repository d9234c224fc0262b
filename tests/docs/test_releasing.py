"""docs/releasing.md: its commands do what they say, as far as that can be tried without publishing anything."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from support.server import REPOSITORY
from support.tools import passes

RELEASING = (REPOSITORY / "docs" / "releasing.md").read_text()
COMMANDS = [
    re.sub(r"^ +", "", block, flags=re.MULTILINE)
    for block in re.findall(r"```bash\n(.*?)```", RELEASING, flags=re.DOTALL)
]


def commands(containing: str) -> str:
    (found,) = (block for block in COMMANDS if containing in block)
    return found


def test_version_and_changelog_are_changed_into_what_can_be_tagged(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", "## Unreleased\n\n- A line to tell of.\n", 1))
    script = "".join(commands(part) for part in ("VERSION=0.2.0", "sed -i", "scripts/release_notes.py"))
    done = subprocess.run(
        ["bash", "-euc", script.replace("python3", shlex.quote(sys.executable))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("- A line to tell of.\n")
    assert re.search(r'^version = "0.2.0"$', (tmp_path / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.search(r"^## Unreleased\n\n## 0\.2\.0 \(\d{4}-\d\d-\d\d\)\n", changelog.read_text(), re.MULTILINE)


def test_shellcheck_accepts_every_command(tmp_path: Path) -> None:
    (tmp_path / "commands").write_text("\n".join(COMMANDS))
    passes("shellcheck", "--shell", "bash", tmp_path / "commands")
