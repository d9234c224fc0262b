"""One file of a download, as it lies on the disk."""

import fcntl
import hashlib
import io
from pathlib import Path

import pytest

from homelab_ai.models.files import blobs
from homelab_ai.models.files.blobs import Blob, Part, TooLongError

SHA256, SHA1 = hashlib.sha256(b"hello\n").hexdigest(), "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize(
    ("path", "size", "etag", "in_lfs"),
    [
        ("a", -1, SHA1, False),
        ("a", 1, SHA256, False),
        ("a", 1, SHA1, True),
        ("a", 1, SHA1.upper(), False),
        ("a", 1, "../" + SHA1[3:], False),
        ("a", 1, SHA1 + "\n", False),
        ("../a", 1, SHA1, False),
        ("/a", 1, SHA1, False),
    ],
)
def test_a_file_that_cannot_be(path: str, size: int, etag: str, in_lfs: bool) -> None:  # noqa: FBT001
    with pytest.raises(ValueError, match="cannot be"):
        Blob(path, size, etag, in_lfs=in_lfs)


@pytest.mark.parametrize("blob", [Blob("a", 6, SHA256, in_lfs=True), Blob("a", 6, SHA1, in_lfs=False)])
@pytest.mark.parametrize(("content", "right"), [(b"hello\n", True), (b"hello!", False), (b"hello\n\n", False)])
def test_a_file_is_told_by_its_digest(tmp_path: Path, blob: Blob, content: bytes, right: bool) -> None:  # noqa: FBT001
    (tmp_path / "x").write_bytes(content)
    with (tmp_path / "x").open("a+b", buffering=0) as file:
        assert blob.is_in(file) is right


class Reluctant(io.FileIO):
    """Writes three bytes at most, as a disk does that is nearly full."""

    def write(self, data: object) -> int:
        return super().write(memoryview(data)[:3])  # type: ignore[arg-type]


def test_what_is_written_is_written_whole_and_told(tmp_path: Path) -> None:
    told: list[int] = []
    with Reluctant(tmp_path / "x", "w+") as file:
        part = Part(file, 10, told.append)
        assert part.write(b"1234567") == 7
        with pytest.raises(TooLongError):
            part.write(b"8901")
        part.seek(0)
        part.truncate()
        part.write(b"abcdefghij")
    assert told == [7, 10]
    assert (tmp_path / "x").read_bytes() == b"abcdefghij"


def test_a_file_that_was_renamed_while_its_lock_was_waited_for_is_not_written(tmp_path: Path) -> None:
    path, waited = tmp_path / "x", []
    with path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"1234")
        other.flush()

        def waiting(size: int) -> None:
            waited.append(size)
            path.rename(tmp_path / "y")
            fcntl.flock(other, fcntl.LOCK_UN)

        with blobs.alone(path, waiting) as file:
            assert file is None
    assert waited == [4]


@pytest.mark.parametrize(("number", "gives_up"), [(38, False), (95, False), (5, True)])  # ENOSYS, EOPNOTSUPP, EIO
def test_a_disk_without_locks_is_used_without_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    gives_up: bool,  # noqa: FBT001
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    if gives_up:
        with pytest.raises(OSError, match="no"), blobs.alone(tmp_path / "x", lambda size: None):
            pass
    else:
        with blobs.alone(tmp_path / "x", lambda size: None) as file:
            assert file
