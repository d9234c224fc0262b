"""The wheel and the sdist of a release, built as the workflow does: with all that the service is made of."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.server import REPOSITORY
from support.tools import needed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both; the wheel is made from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def files(*arguments: str) -> set[str]:
    command = [needed("git"), "-C", str(REPOSITORY), "ls-files", "-z", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\0")
    return {path for path in found if path and (REPOSITORY / path).exists()} or pytest.skip("this is not a clone")


def test_the_wheel_has_every_file_of_the_service_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    here = files("--cached", "--others", "--exclude-standard", "src")
    assert {name for name in names if ".dist-info/" not in name} == {path.removeprefix("src/") for path in here}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_has_what_is_in_the_repository(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files() <= names
