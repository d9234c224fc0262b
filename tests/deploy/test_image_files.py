"""What the image is made of, as far as it can be told without an engine for containers."""

import re
import tomllib
from fnmatch import fnmatchcase

import yaml

from support.server import REPOSITORY
from support.tools import passes

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def default(argument: str) -> str:
    (value,) = re.findall(rf"^ARG {argument}=(.*)$", DOCKERFILE, re.MULTILINE)
    return str(value)


def test_hadolint_accepts_the_dockerfile() -> None:
    passes("hadolint", REPOSITORY / "Dockerfile")


def test_shellcheck_accepts_the_scripts() -> None:
    folder = REPOSITORY / "deploy" / "image"
    passes("shellcheck", *(path for path in folder.iterdir() if path.read_text().startswith("#!/bin/sh")))


def test_it_copies_what_is_sent_to_the_engine_and_no_more_is_sent() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!/") for line in ignored if line.startswith("!")]
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    assert [line for line in ignored if not line.startswith(("!", "#"))] == ["*", "**/__pycache__"]
    assert not [path for path in copied if not any(path == name or path.startswith(f"{name}/") for name in sent)]
    assert not [name for name in sent if not any(fnmatchcase(path, f"{name}*") for path in copied)]
    assert not [name for name in sent if not (REPOSITORY / name).exists()]


def test_its_arguments_are_those_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {*default("EXTRAS").split(",")} <= project["optional-dependencies"].keys()
    assert f"PYTORCH_INDEX:-{default('PYTORCH_INDEX')}}}" in (REPOSITORY / "scripts" / "setup").read_text()
    assert default("BASE") == "debian:bookworm-slim"


def test_the_gpu_image_is_built_from_the_base_of_the_design() -> None:
    arguments = "--build-arg BASE=nvidia/cuda:12.1.0-runtime-ubuntu22.04 --build-arg TORCH=cu126"
    for name in ("Dockerfile", "deploy/compose.gpu.yaml", "docs/deployment.md"):
        assert arguments in (REPOSITORY / name).read_text(), name
    release = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "release.yml").read_text())
    (built,) = (
        image["arguments"]
        for image in release["jobs"]["build"]["strategy"]["matrix"]["include"]
        if image["name"] == "gpu-amd64"
    )
    assert [f"--build-arg {argument}" for argument in built.splitlines()] == re.findall(r"--build-arg \S+", arguments)
