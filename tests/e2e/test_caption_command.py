"""`homelab-ai caption`: folders of images, with a small model that can see."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from models.shapes import caption, draw, scenes
from support.commands import run
from support.images import saved
from support.server import Server

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = f"""
models: {{image_caption: [{{id: shapes, hf_model: {SHAPES}}}]}}
security: {{allow_localhost: true}}
"""
SCENES = list(islice(scenes("of the command"), 6))
SAID = [caption(scene) for scene in SCENES]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG) as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images, one of them in a folder of its own, and what a folder holds beside."""
    folder = tmp_path / "photos"
    names = ("0.png", "1.JPG", "2.heic", "deep/3.webp", ".trash/4.png", "@eaDir/5.png")
    for scene, name in zip(SCENES, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        form = {"JPG": "JPEG", "heic": "HEIF"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
        (folder / name).write_bytes(saved(draw(scene), form))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_file_is_described_and_a_folder_line_by_line(server: Server, photos: Path) -> None:
    done = run(server.url, "caption", photos / "0.png")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{SAID[0]}\n", "")
    done = run(server.url, "caption", photos)
    names = ("0.png", "1.JPG", "2.heic")
    assert done.stdout.splitlines() == [f"{photos / name}: {said}" for name, said in zip(names, SAID, strict=False)]
    done = run(server.url, "caption", photos, "-r", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["caption"] for record in records] == SAID[:4]
    assert records[3] == {"image": str(photos / "deep" / "3.webp"), "caption": SAID[3], "model": "shapes"}
    done = run(server.url, "caption", "-", stdin=(photos / "1.JPG").read_bytes())
    assert (done.exit_code, done.stdout) == (0, f"{SAID[1]}\n")


def test_what_fails_is_named_and_stops_nothing(server: Server, photos: Path) -> None:
    (photos / "0broken.jpg").write_bytes(b"\xff\xd8\xff no image at all")
    (photos / "0empty.gif").touch()
    names = (photos, "no-such-file.png", "http://127.0.0.1:8081/closed.png")
    done = run(server.url, "caption", *names)
    assert done.exit_code == 1
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == SAID[:3]
    said = done.stderr.splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in said[:3]] == ["0broken.jpg", "0empty.gif", names[1]]
    assert "crawl.allow_ports opens it" in said[3]
    assert said[4:] == ["4 of 7 images could not be described"]

    done = run(server.url, "caption", *names, "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["error"]["code"] for record in records if "error" in record] == [
        "UNSUPPORTED_MEDIA_TYPE",
        "INVALID_REQUEST",
        "UNREADABLE",
        "CRAWL_BLOCKED",
    ]


def test_captions_are_written_beside_their_images_once(server: Server, photos: Path) -> None:
    (photos / "1.JPG.txt").write_text("by hand")
    done = run(server.url, "caption", photos, "--recursive", "--sidecar")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "3 described, 1 had a file beside them, 0 failed\n"
    assert (photos / "0.png.txt").read_text() == f"{SAID[0]}\n"
    assert (photos / "deep" / "3.webp.txt").read_text() == f"{SAID[3]}\n"
    assert (photos / "1.JPG.txt").read_text() == "by hand"
    assert not [path for path in photos.rglob("*") if path.suffix == ".part"]

    done = run(server.url, "caption", photos, "--sidecar")
    assert (done.exit_code, done.stderr) == (0, "0 described, 3 had a file beside them, 0 failed\n")
    done = run(server.url, "caption", photos, "--sidecar", "--overwrite")
    assert (done.exit_code, (photos / "1.JPG.txt").read_text()) == (0, f"{SAID[1]}\n")
    done = run(server.url, "caption", photos / "0.png", "--sidecar", "--sidecar-format", "json")
    assert json.loads((photos / "0.png.json").read_text()) == {"caption": SAID[0], "model": "shapes"}


def test_a_caption_that_cannot_be_written_is_a_failure(server: Server, photos: Path) -> None:
    (photos / "1.JPG.txt").mkdir()
    done = run(server.url, "caption", photos, "--sidecar", "--overwrite")
    assert done.exit_code == 1
    assert "1.JPG.txt is no file" in done.stderr
    assert "2 described, 0 had a file beside them, 1 failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("0.png", "--prompt", "what is it?"), 2, "cannot follow prompts"),
        (("0.png", "--model", "nobody"), 3, "is called 'nobody'"),
        (("0.png", "--max-new-tokens", "0"), 2, "--max-new-tokens"),
        (("-", "--sidecar"), 2, "no place beside"),
        (("http://127.0.0.1:8081/x.png", "--sidecar"), 2, "no place beside"),
        (("deep/nothing",), 1, "There are no images there"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_stands_in_the_way_is_said_once(
    server: Server, photos: Path, arguments: tuple[str, ...], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    (photos / "deep" / "nothing").mkdir()
    done = run(server.url, "caption", *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert done.stderr.lower().count(said.lower()) == 1


def test_the_longest_caption_is_heard(server: Server, photos: Path) -> None:
    done = run(server.url, "caption", photos / "0.png", "--max-new-tokens", "3")
    assert done.stdout.split() == SAID[0].split()[:3]
