"""What the image promises before there is a service in it: its contract, and who a container runs as."""

import os
import re
from pathlib import Path

import pytest

from support.container import Engine
from support.server import REPOSITORY

WHO = "id -u; id -g; id -G; umask; date +%Z; grep CapEff /proc/self/status"
NOTHING = "CapEff:\t0000000000000000"
NO_CAPABILITIES = ("--cap-drop", "ALL")


def test_it_is_the_container_of_the_design(engine: Engine, image: str) -> None:
    found = engine.inspect("image", image)
    config = found["Config"]
    assert config["Cmd"] == ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]
    assert config["ExposedPorts"].keys() == {"8000/tcp"}
    assert config["Volumes"].keys() == {"/app/data", "/app/models"}
    assert config["WorkingDir"] == "/app"
    assert (config.get("Healthcheck") or found["Healthcheck"])["Test"] == ["CMD", "/app/bin/healthcheck"]


def test_it_weighs_no_more_than_is_said_of_it(engine: Engine, image: str) -> None:
    """`make e2e ARGS="-s -k weighs"` shows its largest parts."""
    size = engine.inspect("image", image)["Size"]
    largest = "du -sm /opt/* /usr/lib/*/* /usr/lib/* /app/.venv/lib/python3*/site-packages/* | sort -rn | head -40"
    parts = engine.run("run", "--rm", "--entrypoint", "sh", image, "-c", largest).stdout
    print(f"\n{size / 1e9:.2f} GB, of which in MiB:\n{parts}")
    (said,) = re.findall(r"^([\d.]+) GB on the disk", (REPOSITORY / "docs" / "deployment.md").read_text(), re.MULTILINE)
    assert size < float(said) * 1.1e9, "on arm64 it may be a little more"


def test_what_built_it_is_not_left_in_it(engine: Engine, image: str) -> None:
    looked = "ls -A /root/.cache /var/lib/apt/lists /var/cache/apt/archives/*.deb 2>/dev/null; command -v pip gcc uv"
    left = engine.run("run", "--rm", "--entrypoint", "sh", image, "-c", looked, check=False).stdout.split()
    assert not [line for line in left if not line.endswith(":")]  # the names of the folders that were listed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["1000", "1000", "1000", "0022", "UTC", NOTHING]),
        (
            ("--env", "PUID=4321", "--env", "PGID=8765", "--env", "UMASK=027", "--env", "TZ=Asia/Tokyo"),
            ["4321", "8765", "8765", "0027", "JST", NOTHING],
        ),
        (
            (*NO_CAPABILITIES, "--cap-add", "SETUID", "--cap-add", "SETGID"),
            ["1000", "1000", "1000", "0022", "UTC", NOTHING],
        ),
        ((*NO_CAPABILITIES, "--user", "4321:8765"), ["4321", "8765", "8765", "0022", "UTC", NOTHING]),
    ],
    ids=["as root", "with variables", "with two capabilities", "as somebody"],
)
def test_it_runs_as_who_is_named_and_never_as_root(
    engine: Engine, image: str, options: tuple[str, ...], expected: list[str]
) -> None:
    done = engine.run("run", "--rm", "--security-opt", "no-new-privileges", *options, image, "sh", "-c", WHO)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (NO_CAPABILITIES, "Start the container with --user 1000:1000, or leave it the capabilities SETUID and SETGID"),
        (("--env", "PUID=0"), "PUID=0 would run the service as root"),
        (("--env", "PUID=me"), "PUID must be a number, not 'me'"),
        (("--env", "PGID=1;id"), "PGID must be a number, not '1;id'"),
        (("--env", "UMASK=9"), "UMASK must be octal, such as 027, not '9'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ",
)
def test_it_says_why_it_does_not_start(engine: Engine, image: str, options: tuple[str, ...], why: str) -> None:
    done = engine.run("run", "--rm", *options, image, "id", check=False)
    assert done.returncode == 64
    assert why in done.stderr
    assert not done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of others")
def test_what_belongs_to_root_in_its_folders_is_given_to_it_and_the_rest_is_not(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).touch()
    os.chown(tmp_path / "theirs", 5555, 5555)
    (tmp_path / "link").symlink_to("/etc/passwd")
    engine.run("run", "--rm", "--env", "PUID=4321", "--volume", f"{tmp_path}:/app/models", image, "true")
    owners = {path.name: path.lstat().st_uid for path in (tmp_path, *tmp_path.iterdir())}
    assert owners == {tmp_path.name: 4321, "mine": 4321, "theirs": 5555, "link": 4321}


def test_the_health_check_tells_where_nothing_answers(engine: Engine, image: str) -> None:
    assert engine.run("run", "--rm", image, "/app/bin/healthcheck", check=False).returncode == 1
