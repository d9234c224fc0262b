"""The workflows for GitHub: valid, pinned, and true of what is here; and that nothing is published untested."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.server import REPOSITORY
from support.tools import passes

FOLDER = REPOSITORY / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
SCRIPTS = [
    pytest.param(step["run"], id=f"{name} {job} {number}")
    for name, workflow in WORKFLOWS.items()
    for job, described in workflow["jobs"].items()
    for number, step in enumerate(described.get("steps", ()))
    if "run" in step
]


def needed(jobs: dict[str, Any], job: str) -> Iterator[str]:
    """The jobs that have to pass before a job is run."""
    needs = jobs[job].get("needs", [])
    for each in [needs] if isinstance(needs, str) else needs:
        yield each
        yield from needed(jobs, each)


def test_github_accepts_the_workflows() -> None:
    assert [*WORKFLOWS] == ["docs", "release", "test"]
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FOLDER.glob("*.yml"))
    passes("check-jsonschema", "--builtin-schema", "vendor.dependabot", FOLDER.parent / "dependabot.yml")


def test_zizmor_finds_no_hole_in_the_workflows() -> None:
    passes("zizmor", "--offline", "--no-progress", FOLDER.parent)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_accepts_what_they_run(script: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text(script)
    passes("shellcheck", "--shell", "bash", tmp_path / "run")


def test_every_action_is_pinned_and_everywhere_the_same() -> None:
    used = [line for path in FOLDER.glob("*.yml") for line in re.findall(r"uses: (?!\$/)(.*)", path.read_text())]
    pins = {line: re.fullmatch(r"([\w-]+/[\w-]+)@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line) for line in used}
    assert used
    assert all(pins.values())
    assert len({*used}) == len({pin[1] for pin in pins.values() if pin})


def test_what_the_workflows_run_is_there() -> None:
    scripts = "\n".join(str(param.values[0]) for param in SCRIPTS)
    for target in re.findall(r"make ([a-z0-9]+)", scripts):
        assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    called = re.findall(r"(?:python |^)((?:\.ci|scripts)/\S+)", scripts, re.MULTILINE)
    assert {*called} == {".ci/run", "scripts/release_notes.py"}
    assert not [path for path in called if not (REPOSITORY / path).is_file()]


def test_nothing_is_published_before_the_tag_is_compared_and_every_test_has_passed() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert "scripts/release_notes.py" in " ".join(step.get("run", "") for step in jobs["package"]["steps"])
    assert jobs["test"]["uses"] == "$/.github/workflows/test.yml"
    assert {"package", "test"} <= {*needed(jobs, "build")}
    assert {"package", "test", "build"} <= {*needed(jobs, "publish")}
    assert not [name for name, job in jobs.items() if "if" in job], "a job that is skipped counts as passed"


def test_only_what_publishes_may_write() -> None:
    may = {
        name: {what for what, how in job["permissions"].items() if how == "write"}
        for name, job in WORKFLOWS["release"]["jobs"].items()
    }
    assert may == {
        "package": set(),
        "test": set(),
        "build": {"packages"},
        "publish": {"contents", "id-token", "packages"},
    }
    assert not [job for job in WORKFLOWS["test"]["jobs"].values() if job["permissions"] != {"contents": "read"}]
