"""Prints the release notes of a tag, or says why nothing may be released from it.

A tag `vX.Y.Z` has to name the version of pyproject.toml, which is the only place where it stands, and a section
`## X.Y.Z (YYYY-MM-DD)` of CHANGELOG.md, which is printed. The release workflow runs this before all else.

    python scripts/release_notes.py v1.2.3
"""

import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def release_notes(tag: str, version: str, changelog: str) -> str:
    """The section of the changelog as Markdown for GitHub, where a line's end is a line's end."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or tag != f"v{version}":
        raise SystemExit(f"The tag '{tag}' does not fit the version of pyproject.toml, which is '{version}'")
    head, _, rest = changelog.partition(f"\n## {version} (")
    dated = re.match(r"\d{4}-\d\d-\d\d\)\n(.*?)(?=^## |\Z)", rest, re.DOTALL | re.MULTILINE)
    if not dated or not (notes := dated[1].strip()):
        raise SystemExit(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)', or it is empty")
    if left := head.partition("\n## Unreleased\n")[2].strip():
        raise SystemExit(f"CHANGELOG.md still has something under 'Unreleased': {left.splitlines()[-1]}")
    return re.sub(r"(?<=\S)\n +(?![\s*-])", " ", notes)


def absolute(notes: str, base: str) -> str:
    """What they link to in the repository, with the address that it has outside of it."""
    return re.sub(r"\]\((?!\w+:|#)", f"]({base}/", notes)


def main() -> None:
    """Print the notes of the tag that is the argument."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its argument
        raise SystemExit(__doc__)
    tag = sys.argv[1]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    notes = release_notes(tag, version, (ROOT / "CHANGELOG.md").read_text())
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        notes = absolute(notes, f"{os.environ['GITHUB_SERVER_URL']}/{repository}/blob/{tag}")
    print(notes)


if __name__ == "__main__":
    main()
