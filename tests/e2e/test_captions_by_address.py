"""Captions of images by their address, of a real service: from a site on this machine that its configuration opens."""

import contextlib
import gzip
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest

from models.shapes import caption, draw, scenes
from support.answering import Handler, answering
from support.images import saved
from support.server import Server, free_port, wait_for

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = """
models: {{text_embedding: [], image_caption: [{{id: shapes, hf_model: {shapes}}}]}}
crawl: {{allow_networks: [127.0.0.1/32], allow_ports: [{port}, {own}], timeout_seconds: 20}}
"""
SCENES = list(islice(scenes("by their address"), 6))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


class Site(Handler):
    """Has pictures by their number, and what is none."""

    hanging: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["picture", number]:
                self.answer(saved(draw(SCENES[int(number)]), "PNG"), "image/png")
            case ["gzip", number]:
                picture = gzip.compress(saved(draw(SCENES[int(number)]), "BMP"))
                self.answer(picture, "image/bmp", headers={"Content-Encoding": "gzip"})
            case ["svg"]:
                self.answer(SVG, "image/svg+xml")
            case ["page"]:
                self.answer(b"<!doctype html><title>A page</title><p>that says it was a picture", "image/png")
            case ["home"]:
                self.answer(b"", status=302, headers={"Location": "http://127.0.0.1:1/router.png"})
            case _:
                self.hang()

    def hang(self) -> None:
        """Say nothing until the other side has gone."""
        with self.lock:
            Site.hanging += 1
        with contextlib.suppress(OSError):
            self.rfile.read(1)
        with self.lock:
            Site.hanging -= 1


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with answering(Site) as url:
        yield url


@pytest.fixture(scope="module")
def server(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    own = free_port()
    config = CONFIG.format(shapes=SHAPES, port=site.rpartition(":")[2], own=own)
    with Server(tmp_path_factory.mktemp("service"), config=config, port=own) as server:
        yield server


@pytest.fixture
def ask(server: Server, site: str) -> Iterator[Callable[..., httpx.Response]]:
    with server.client() as client:

        def send(*paths: str) -> httpx.Response:
            addresses = [path if "://" in path else f"{site}/{path}" for path in paths]
            body = {"image": addresses[0]} if len(addresses) == 1 else {"batch": addresses}
            return client.post("/api/caption", json=body)

        yield send


def test_pictures_of_a_site_are_described(ask: Callable[..., httpx.Response]) -> None:
    answer = ask("picture/0")
    assert answer.status_code == 200, answer.text
    assert answer.json()["caption"] == caption(SCENES[0])
    assert ask("gzip/1").json()["caption"] == caption(SCENES[1])
    items = ask(*(f"picture/{number}" for number in range(6)), "home", "picture/5#again").json()["captions"]
    assert [item.get("caption") for item in items[:6]] == [caption(scene) for scene in SCENES]
    assert items[6]["error"]["code"] == "CRAWL_BLOCKED"
    assert items[7]["caption"] == caption(SCENES[5])


@pytest.mark.parametrize("path", ["svg", "page"])
def test_what_is_no_picture_is_refused_whatever_it_says_it_is(ask: Callable[..., httpx.Response], path: str) -> None:
    answer = ask(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "JPEG, PNG, WebP" in answer.json()["error"]["message"]


def test_the_service_itself_is_not_asked(ask: Callable[..., httpx.Response], server: Server) -> None:
    answer = ask(f"{server.url}/docs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CRAWL_BLOCKED")
    assert "this service itself" in answer.json()["error"]["message"]


def test_a_caller_that_goes_takes_its_fetches_along(
    ask: Callable[..., httpx.Response], server: Server, site: str
) -> None:
    assert ask("picture/0").status_code == 200
    api = psutil.Process(server.process.pid)
    wait_for(lambda: Site.hanging == 0)
    files = api.num_fds()
    body = json.dumps({"batch": [f"{site}/hang/{number}" for number in range(9)]}).encode()
    head = (
        f"POST /api/caption HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        wait_for(lambda: Site.hanging == 4)
    wait_for(lambda: Site.hanging == 0)
    wait_for(lambda: api.num_fds() <= files)
    assert ask("picture/0").status_code == 200
    wait_for(lambda: "| 499 |" in server.stdout)


def test_changed_settings_are_followed(site: str, tmp_path: Path) -> None:
    """What may be fetched at all, and from where: each by a part of its own."""

    def refusal() -> str:
        answer = client.post("/api/caption", json={"image": f"{site}/svg"})
        return f"{answer.json()['error']['code']} {answer.json()['error']['message']}"

    def change(crawl: str) -> None:
        (tmp_path / "config.yaml").write_text(f"crawl: {{{crawl}}}\n")
        server.process.send_signal(signal.SIGHUP)

    with Server(tmp_path, config="crawl: {enabled: false}\n") as server, server.client() as client:
        assert "crawl.enabled is false" in refusal()
        change(f"enabled: true, allow_ports: [{site.rpartition(':')[2]}]")
        wait_for(lambda: "this machine's own" in refusal())
        change(f"allow_networks: [127.0.0.1/32], allow_ports: [{site.rpartition(':')[2]}]")
        wait_for(lambda: "UNSUPPORTED_MEDIA_TYPE" in refusal())


def test_no_address_is_in_the_logs(ask: Callable[..., httpx.Response], server: Server) -> None:
    for path in ("picture/0", "svg", "home"):
        ask(path)
    for log in (server.stdout, server.stderr):
        assert not [word for word in ("picture", "svg", "/home", "router") if word in log]
