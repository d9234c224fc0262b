"""What a tag has to fit before anything is released from it, and what its notes say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import REPOSITORY

CHANGELOG = """# Changelog

## Unreleased

## 1.2.0 (2026-11-26)

### Added

- A page to run it from, which is
  described in [docs/admin.md](docs/admin.md)
  - in short; and [elsewhere](https://example.org/).

## 1.1.9 (2026-10-01)

- Older.
"""
NOTES = """### Added

- A page to run it from, which is described in [docs/admin.md](docs/admin.md)
  - in short; and [elsewhere](https://example.org/).
"""


def told(
    folder: Path, *tag: str, version: str = "1.2.0", changelog: str = CHANGELOG, repository: str | None = None
) -> "subprocess.CompletedProcess[str]":
    (folder / "scripts").mkdir()
    script = shutil.copy(REPOSITORY / "scripts" / "release_notes.py", folder / "scripts")
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    given = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": repository} if repository else {}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")} | given
    command = [sys.executable, script, *tag]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_notes_are_the_section_of_the_version_with_each_item_in_one_line(tmp_path: Path) -> None:
    done = told(tmp_path, "v1.2.0")
    assert (done.returncode, done.stdout, done.stderr) == (0, NOTES, "")


def test_on_github_they_link_to_the_files_of_the_tag(tmp_path: Path) -> None:
    notes = told(tmp_path, "v1.2.0", repository="somebody/homelab-ai-api").stdout
    assert "[docs/admin.md](https://github.com/somebody/homelab-ai-api/blob/v1.2.0/docs/admin.md)" in notes
    assert "[elsewhere](https://example.org/)" in notes


@pytest.mark.parametrize("tag", ["v1.2.1", "1.2.0", "v1.2", "v1.2.0-rc1", "v1.2.0\n", "v11.2.0", ""])
def test_a_tag_of_another_version_is_refused(tmp_path: Path, tag: str) -> None:
    done = told(tmp_path, tag)
    assert done.returncode == 1
    assert not done.stdout
    assert f"The tag '{tag}' does not fit the version of pyproject.toml, which is '1.2.0'" in done.stderr


def test_a_version_that_is_no_release_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, "v1.2.0.dev1", version="1.2.0.dev1").returncode == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (CHANGELOG.replace("## 1.2.0 (2026-11-26)", "## 1.2.0"), "no section '## 1.2.0 (YYYY-MM-DD)'"),
        (CHANGELOG.replace("## 1.2.0 (2026-11-26)", "## 1.2.0 (soon)"), "no section '## 1.2.0 (YYYY-MM-DD)'"),
        (CHANGELOG.replace("## 1.2.0 (2026-11-26)", "## 1.2.00 (2026-11-26)"), "no section '## 1.2.0 (YYYY-MM-DD)'"),
        (CHANGELOG.replace(NOTES.splitlines()[0], "## 1.1.10 (2026-11-01)\n\n- Not of it."), "or it is empty"),
        (CHANGELOG.replace("## Unreleased\n", "## Unreleased\n\n- Forgotten.\n"), "under 'Unreleased': - Forgotten."),
    ],
    ids=["no date", "a date to come", "another section", "nothing in it", "something forgotten"],
)
def test_a_changelog_that_does_not_tell_of_the_version_is_refused(tmp_path: Path, changed: str, why: str) -> None:
    assert changed != CHANGELOG
    done = told(tmp_path, "v1.2.0", changelog=changed)
    assert done.returncode == 1
    assert not done.stdout
    assert why in done.stderr


def test_it_says_how_it_is_called(tmp_path: Path) -> None:
    done = told(tmp_path)
    assert done.returncode == 1
    assert "python scripts/release_notes.py v1.2.3" in done.stderr
