"""Whatever is sent as an image: a clear answer, and nothing stays behind, in memory or on the disk."""

import base64
import io
import os
import random
import signal
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from models.shapes import caption, draw, scenes
from support.images import FUZZ, KINDS, drawn, mutated, png_of, saved
from support.server import KEYLESS, Server, wait_for

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = f"models: {{text_embedding: [], image_caption: [{{id: shapes, hf_model: {SHAPES}}}]}}\n"
MB = 1024**2
SCENE = next(scenes("what is sent"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a folder of its own for temporary files, and a first caption behind it."""
    folder = tmp_path_factory.mktemp("service")
    temporary = folder / "tmp"
    temporary.mkdir()
    with Server(folder, config=CONFIG, environment={**KEYLESS, "TMPDIR": str(temporary)}) as server:
        with server.client() as client:
            assert client.post("/api/caption", files={"image": saved(draw(SCENE), "PNG")}).status_code == 200
        yield server


@dataclass(frozen=True)
class Traces:
    """What the service holds."""

    files: int
    processes: int
    temporary: list[str]
    api_bytes: int
    decoder_bytes: int

    @classmethod
    def of(cls, server: Server) -> "Traces":
        api = psutil.Process(server.process.pid)
        sizes = sorted(host.memory_info().rss for host in server.hosts())
        temporary = sorted(path.name for path in (server.folder / "tmp").iterdir())
        return cls(api.num_fds(), len(sizes), temporary, api.memory_info().rss, sizes[0] if sizes else 0)


def still_describes(client: httpx.Client) -> bool:
    answer = client.post("/api/caption", files={"image": saved(draw(SCENE), "PNG")}).json()
    return bool(answer["caption"] == caption(SCENE))


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file(data: bytes, name: str = "photo.jpg") -> dict[str, Any]:
    return {"files": {"image": (name, data, "image/jpeg")}}


PICTURE = saved(drawn(), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'

WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no image": ({"json": {}}, 400, "image"),
    "a form without an image": ({"data": {"model": "shapes"}, "files": {"x": b""}}, 400, "x"),
    "two sources": ({"json": {"image": in_base64(PICTURE), "batch": [in_base64(PICTURE)]}}, 400, "batch"),
    "a text that is called .jpg": (file(b"Dear all, ..."), 415, "image"),
    "SVG": (file(SVG, "drawing.svg"), 415, "image"),
    "a bomb": (file(png_of(30_000, 30_000, zlib.compress(bytes(10_000_000), 9))), 413, "30000 x 30000"),
    "a zero-byte file": (file(b""), 400, "is empty"),
    "an empty text": ({"json": {"image": ""}}, 400, "is empty"),
    "broken base64": ({"json": {"image": "!!" + in_base64(PICTURE)}}, 400, "base64"),
    "base64 of half a picture": ({"json": {"image": in_base64(PICTURE[: len(PICTURE) // 2])}}, 400, "damaged"),
    "a batch of 1,000": ({"json": {"batch": [in_base64(PICTURE)] * 1000}}, 400, "1000 images"),
    "a form of 1,000": ({"files": [("image", PICTURE)] * 1000}, 400, "body"),
    "an upload of 200 MB": (file(bytes(200 * MB)), 413, "limits.max_body_mb"),
    "an upload of 200 MB in pieces": (
        {
            "content": (b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n", *[bytes(MB)] * 200),
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        413,
        "limits.max_body_mb",
    ),
}


def test_what_is_no_image_is_refused_with_its_reason_and_leaves_nothing_behind(server: Server) -> None:
    with server.client() as client:
        for round_ in range(3):
            for name, (request, status, reason) in WRONG.items():
                answer = client.post("/api/caption", **request)
                assert answer.status_code == status, (name, answer.text)
                assert reason in answer.text, (name, answer.text)
                assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]
            if round_ == 0:
                before = Traces.of(server)
        wait_for(lambda: Traces.of(server).files <= before.files)
        after = Traces.of(server)
        assert (after.processes, after.temporary) == (2, before.temporary)
        assert after.api_bytes < before.api_bytes + 40 * MB
        assert after.decoder_bytes < before.decoder_bytes + 40 * MB
        assert still_describes(client)


def test_a_picture_with_a_corrupt_exif_block_is_described(server: Server) -> None:
    with server.client() as client:
        for exif in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 50, bytes(60_000)):
            picture = saved(draw(SCENE), "JPEG", exif=exif, quality=90)
            assert client.post("/api/caption", **file(picture)).json()["caption"] == caption(SCENE)


@pytest.mark.timeout(60 + FUZZ)
def test_no_mutated_image_does_harm(server: Server) -> None:
    """Sent in every form, four at a time: an answer to each, the same for the same file, and no growth."""
    dice = random.Random(3)
    whole = [make() for make in KINDS.values()]
    images = [mutated(whole[number % len(whole)], dice) for number in range(FUZZ)]
    seen: dict[int, int] = {}

    def send(number: int) -> httpx.Response:
        match number % 3:
            case 0:
                return client.post("/api/caption", files={"image": images[number]}, data={"max_new_tokens": "4"})
            case 1:
                return client.post("/api/caption", json={"image": in_base64(images[number]), "max_new_tokens": 4})
            case _:
                return client.post("/api/caption", json={"batch": [in_base64(images[number])], "max_new_tokens": 4})

    def check(number: int) -> int:
        answer = send(number)
        if number % 3 == 2:
            assert answer.status_code == 200, answer.text
            (item,) = answer.json()["captions"]
            if "error" not in item:
                return 200
            return {"INVALID_REQUEST": 400, "PAYLOAD_TOO_LARGE": 413, "UNSUPPORTED_MEDIA_TYPE": 415}[
                item["error"]["code"]
            ]
        assert answer.status_code in {200, 400, 413, 415}, (number, answer.text)
        assert answer.json()["error" if answer.is_error else "caption"]
        return answer.status_code

    with server.client() as client, ThreadPoolExecutor(4) as pool:
        third = FUZZ // 3
        before = None
        for number, status in enumerate(pool.map(check, range(FUZZ))):
            seen[status] = seen.get(status, 0) + 1
            if number == third:
                before = Traces.of(server)
        assert before
        assert {200, 400} <= seen.keys()
        after = Traces.of(server)
        assert (after.processes, after.temporary) == (2, before.temporary)
        assert after.files <= before.files
        assert after.api_bytes < before.api_bytes + 20 * MB
        assert after.decoder_bytes < before.decoder_bytes + 100 * MB, "some pictures are larger than others"
        assert still_describes(client)


def test_a_caller_that_goes_in_the_middle_of_an_upload_leaves_nothing_behind(server: Server) -> None:
    before = Traces.of(server)
    head = (
        f"POST /api/caption HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {50 * MB}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        "--b\r\nContent-Disposition: form-data; name=image; filename=a.jpg\r\n\r\n"
    )
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + os.urandom(3 * MB))
    wait_for(lambda: Traces.of(server).files <= before.files)
    assert Traces.of(server).temporary == before.temporary
    with server.client() as client:
        assert still_describes(client)


@pytest.mark.timeout(120)
def test_a_killed_decoder_or_model_costs_no_caller_an_answer(server: Server) -> None:
    """Both kinds of process are killed again and again while captions are asked for."""
    wanted = list(islice(scenes("killed"), 24))

    def ask(number: int) -> str:
        picture = io.BytesIO()
        draw(wanted[number]).resize((900, 900), Image.Resampling.NEAREST).save(picture, "PNG")
        answer = client.post("/api/caption", files={"image": picture.getvalue()})
        assert answer.status_code == 200, answer.text
        said: str = answer.json()["caption"]
        return said

    with server.client() as client, ThreadPoolExecutor(4) as pool:
        expected = list(pool.map(ask, range(len(wanted))))
        answers = pool.map(ask, list(range(len(wanted))) * 3)
        for number in range(4):
            victims = server.hosts()
            if victims:
                os.kill(victims[number % len(victims)].pid, signal.SIGKILL)
            assert [next(answers) for _ in range(9)] == (expected * 3)[9 * number : 9 * number + 9]
        assert list(answers) == (expected * 3)[36:]
