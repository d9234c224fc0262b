"""The workflows for GitHub: valid, pinned, and true of what is here."""

import re

import yaml

from support.server import REPOSITORY
from support.tools import passes

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def test_github_accepts_the_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["image", "test"]
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_zizmor_finds_no_hole_in_the_workflows() -> None:
    passes("zizmor", "--offline", "--no-progress", REPOSITORY / ".github" / "workflows")


def test_every_action_is_pinned_and_everywhere_the_same() -> None:
    used = [line for path in WORKFLOWS for line in re.findall(r"uses: (.*)", path.read_text())]
    pins = {line: re.fullmatch(r"([\w-]+/[\w-]+)@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line) for line in used}
    assert used
    assert all(pins.values())
    assert len({*used}) == len({pin[1] for pin in pins.values() if pin})


def test_what_the_workflows_run_and_watch_is_there() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        watched = workflow[True].get("pull_request") or {}  # `on`, which YAML 1.1 takes for a truth
        assert not [name for name in watched.get("paths", ()) if not (REPOSITORY / name.removesuffix("/**")).exists()]
        steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
        for target in re.findall(r"make ([a-z0-9]+)", "\n".join(steps)):
            assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
