"""`POST /api/caption` with addresses of images: who may send them, what is fetched, and what is answered if it is not.

The sites are made up (`support.egress`): nothing leaves this machine, whatever the guard lets through.
"""

import asyncio
import base64
import gzip
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.answers import asking, bearer, key_entry, refused, serving
from homelab_ai import app
from homelab_ai.crawling import images
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.settings import Settings
from support.egress import SITE, Handler, Internet, echo, saying, silent, with_body
from support.hosts import FakeHosts

CAT = f"http://{SITE}/cat.png"
IN_BASE64 = base64.b64encode(b"image: dog").decode()
AN_IMAGE = with_body(b"image: cat", "Content-Type: image/png")
NAS = "10.1.2.3"


class Home:
    """The service, and the internet that it is in."""

    def __init__(self, client: TestClient, internet: Internet) -> None:
        self.client = client
        self.internet = internet

    def serve(self, handler: Handler, *place: Any) -> None:
        """Have a server stand behind an address."""
        self.call(self.internet.serve, handler, *place)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        assert self.client.portal
        return self.client.portal.call(function, *arguments)

    def ask(self, *addresses: str, key: str | None = None, **more: Any) -> Any:
        """One image, or several as a batch."""
        body = {"image": addresses[0]} if len(addresses) == 1 else {"batch": addresses}
        return self.client.post("/api/caption", json={**body, **more}, headers=bearer(key) if key else None)

    def counted(self, name: str, **labels: str) -> float:
        text = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        line = re.search(rf"^{name}{re.escape(f'{{{text}}}' if text else '')} (\S+)$", self.metrics(), re.MULTILINE)
        assert line, (name, labels)
        return float(line[1])

    def metrics(self) -> str:
        return self.client.get("/metrics").text


@pytest.fixture
def at_home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def open_home(hosts: FakeHosts | None = None, peer: str = "127.0.0.1", **changed: Any) -> Iterator[Home]:
        internet = Internet()
        monkeypatch.setattr(app, "Guard", partial(Guard, resolve=internet.resolve, dial=internet.dial))
        crawl = {"enabled": True, **changed.pop("crawl", {})}
        with serving(settings, hosts, peer=peer, crawl=crawl, **changed) as client:
            home = Home(client, internet)
            yield home
            home.call(internet.close)

    return open_home


@pytest.fixture
def home(at_home: Callable[..., Any]) -> Iterator[Home]:
    with at_home() as home:
        yield home


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server whose image has no end."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nimage: cat")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


def answering(pages: dict[str, bytes], heard: list[str] | None = None) -> Handler:
    """A server with an answer for each path."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if heard is not None:
            heard.append(path)
        writer.write(pages.get(path, with_body(b"image: no", status="404 Not Found")))
        await writer.drain()

    return handle


# --- what is fetched


def test_an_image_by_its_address_is_described_however_it_is_sent(home: Home) -> None:
    heard: list[bytes] = []
    home.serve(saying(AN_IMAGE, heard))
    for answer in (
        home.ask(CAT),
        home.ask(f" HTTP://{SITE.upper()}/cat.png#left\n".strip()),
        home.client.post("/api/caption", files={"image": (None, CAT)}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json()["caption"] == "a picture of cat"
    assert "fetch;dur=" in home.ask(CAT).headers["Server-Timing"]
    head = heard[1].decode().lower()
    assert head.startswith("get /cat.png http/1.1")
    assert "\r\naccept: image/jpeg,image/png," in head
    assert "authorization" not in head
    assert home.counted("crawl_pages_total", outcome="complete", way="image") == 4


def test_what_is_compressed_for_the_way_is_unfolded(home: Home) -> None:
    home.serve(saying(with_body(gzip.compress(b"image: cat"), "Content-Encoding: gzip")))
    assert home.ask(CAT).json()["caption"] == "a picture of cat"


def test_redirects_are_followed(home: Home) -> None:
    moved = with_body(b"", f"Location: http://{SITE}/cat.png", status="302 Found")
    home.serve(answering({"/old": moved, "/cat.png": AN_IMAGE}))
    assert home.ask(f"http://{SITE}/old").json()["caption"] == "a picture of cat"


def test_in_a_batch_each_has_its_own_caption_or_its_own_error_and_equal_ones_are_fetched_once(home: Home) -> None:
    heard: list[str] = []
    odd = with_body(b"unknown: is no image that can be read here")
    home.serve(answering({"/cat.png": AN_IMAGE, "/page": odd}, heard))
    batch = [
        CAT,
        IN_BASE64,
        f"http://{SITE}/none",
        f"{CAT}#again",
        "http://192.168.1.1/cat.png",
        f"http://{SITE}/page",
        "http://",
        "http://nowhere.example/cat.png",
        f"http://{SITE}/none",
    ]
    items = home.ask(*batch).json()["captions"]
    assert [item["index"] for item in items] == list(range(9))
    cat, dog = "a picture of cat", "a picture of dog"
    assert [item.get("caption") for item in items] == [cat, dog, None, cat, None, None, None, None, None]
    assert [(item.get("error") or {}).get("code") for item in items] == [
        *(None, None, "CRAWL_FAILED", None, "CRAWL_BLOCKED"),
        *("UNSUPPORTED_MEDIA_TYPE", "INVALID_REQUEST", "CRAWL_FAILED", "CRAWL_FAILED"),
    ]
    for index, item in enumerate(items):
        if "error" in item:
            assert item["error"]["message"].startswith(f"batch[{index}]: ")
    assert items[2]["error"]["details"] == {"field": "batch[2]", "status": 404}
    assert sorted(heard) == ["/cat.png", "/none", "/page"]
    assert home.counted("crawl_pages_total", outcome="complete", way="image") == 2
    assert home.counted("crawl_failures_total", code="CRAWL_FAILED") == 2
    assert home.counted("crawl_failures_total", code="CRAWL_BLOCKED") == 1
    assert home.counted("crawl_blocked_requests_total") == 1


def test_several_of_a_batch_are_fetched_at_once_but_not_all(home: Home) -> None:
    present = most = 0
    four = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal present, most
        await reader.readuntil(b"\r\n\r\n")
        present += 1
        most = max(most, present)
        if present == images.PLACES_OF_A_REQUEST:
            four.set()
        await four.wait()
        await asyncio.sleep(0.05)  # in which one more would come, if it might
        present -= 1
        writer.write(AN_IMAGE)
        await writer.drain()

    home.serve(handle)
    items = home.ask(*(f"http://{SITE}/{number}.png" for number in range(10))).json()["captions"]
    assert [item["caption"] for item in items] == ["a picture of cat"] * 10
    assert most == images.PLACES_OF_A_REQUEST


# --- who may


def test_a_key_needs_the_scope_crawl_as_well(at_home: Callable[..., Any]) -> None:
    keys = [
        key_entry("app", "app", "caption"),
        key_entry("reader", "reader", "crawl"),
        key_entry("both", "both", "caption", "crawl"),
    ]
    with at_home(security={"api_keys": keys}) as home:
        home.serve(saying(AN_IMAGE))
        for answer in (
            home.ask(CAT, key="app"),
            home.ask(IN_BASE64, CAT, key="app"),
            home.client.post("/api/caption", files={"image": (None, CAT)}, headers=bearer("app")),
        ):
            error = refused(answer, 403, "FORBIDDEN")
            assert error["details"] == {"scope": "crawl"}
            assert "'crawl'" in error["message"]
        refused(home.ask(CAT, key="reader"), 403, "FORBIDDEN")
        assert home.internet.asked == [], "nothing is even looked up"
        assert home.ask(IN_BASE64, key="app").json()["caption"] == "a picture of dog"
        assert home.ask(CAT, key="both").json()["caption"] == "a picture of cat"


@pytest.mark.parametrize(("scopes", "status"), [(["caption"], 403), (["caption", "crawl"], 200)])
def test_a_network_may_if_it_has_both_scopes(at_home: Callable[..., Any], scopes: list[str], status: int) -> None:
    networks = [{"cidr": "192.168.1.0/24", "name": "living-room", "scopes": [*scopes, "read"]}]
    with at_home(peer="192.168.1.7", security={"networks": networks}) as home:
        home.serve(saying(AN_IMAGE))
        assert home.ask(CAT).status_code == status
        refused(home.client.post("/api/caption", json={"image": CAT}, headers={"Origin": "http://x"}), 403, "FORBIDDEN")


def test_a_key_reaches_the_networks_that_are_open_to_it(at_home: Callable[..., Any]) -> None:
    keys = [
        key_entry("photos", "photos", "caption", "crawl", crawl_allow_networks=["10.1.2.0/24"]),
        key_entry("other", "other", "caption", "crawl"),
    ]
    with at_home(security={"api_keys": keys}) as home:
        home.serve(saying(AN_IMAGE), NAS)
        refused(home.ask(f"http://{NAS}/cat.png", key="other"), 403, "CRAWL_BLOCKED")
        assert home.internet.dialled == []
        assert home.ask(f"http://{NAS}/cat.png", key="photos").json()["caption"] == "a picture of cat"


def test_nothing_is_fetched_where_pages_are_not_read(at_home: Callable[..., Any]) -> None:
    with at_home(crawl={"enabled": False}) as home:
        error = refused(home.ask(CAT), 403, "CRAWL_BLOCKED")
        assert error["message"] == "image: the image may not be fetched: crawl.enabled is false"
        items = home.ask(CAT, IN_BASE64).json()["captions"]
        assert [item.get("caption") for item in items] == [None, "a picture of dog"]
        assert home.internet.asked == []


# --- what is not fetched


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.1/",
        "http://169.254.169.254/latest",
        "https://100.64.0.1/",
        "http://0xc0a80101/",
        "http://nas.example/",
    ],
)
def test_nothing_at_home_is_fetched_directly_or_by_a_redirect(home: Home, address: str) -> None:
    home.internet.names["nas.example"] = [["192.168.1.5"]]
    home.serve(saying(with_body(b"", f"Location: {address}", status="302 Found")))
    for asked in (address, CAT):
        error = refused(home.ask(asked), 403, "CRAWL_BLOCKED")
        assert error["message"].startswith("image: the image may not be fetched: its address is ")
        assert error["details"].keys() == {"reason", "field"}
    assert {place for place, _ in home.internet.dialled} == {"93.184.216.34"}


WRONG = {
    "http://": "names no host",
    "https://user:secret@site.example/cat.png": "holds a user name or a password",
    "http://site.example:99999/": "is not a web address",
    "http://exa mple.com/": "holds a space",
    "http://site.example/" + "a" * 9000: "is longer than 8192 characters",
}


@pytest.mark.parametrize(("address", "reason"), WRONG.items(), ids=range(len(WRONG)))
def test_an_address_that_is_none_is_a_wrong_field(home: Home, address: str, reason: str) -> None:
    error = refused(home.ask(address), 400, "INVALID_REQUEST")
    (wrong,) = error["details"]["errors"]
    assert wrong["field"] == "image"
    assert reason in wrong["message"]
    assert "secret" not in str(error)


FAILS: dict[str, tuple[bytes, str]] = {
    "not there": (with_body(b"image: cat", status="404 Not Found"), "its server has answered 404"),
    "an error": (with_body(b"image: cat", status="500 Oh"), "its server has answered 500"),
    "a part": (with_body(b"image: c", status="206 Partial Content"), "its server has answered 206"),
    "cut off": (AN_IMAGE.replace(b"Length: 10", b"Length: 99"), "its server broke off"),
    "another coding": (with_body(b"image: cat", "Content-Encoding: br"), "Content-Encoding"),
    "a damaged coding": (with_body(b"image: cat", "Content-Encoding: gzip"), "is damaged"),
    "half a coding": (with_body(gzip.compress(b"image: cat")[:-4], "Content-Encoding: gzip"), "its server broke off"),
    "no HTTP": (b"220 mail.example ESMTP\r\n\r\n", "is not valid HTTP"),
    "in circles": (with_body(b"", f"Location: {CAT}", status="302 Found"), "redirects more than 10 times"),
    "no address": (with_body(b"", "Location: file:///etc/passwd", status="302 Found"), "redirects to what has no web"),
}


@pytest.mark.parametrize(("answer", "reason"), FAILS.values(), ids=FAILS)
def test_a_server_that_does_not_send_the_image_is_the_error(home: Home, answer: bytes, reason: str) -> None:
    home.serve(saying(answer))
    error = refused(home.ask(CAT), 502, "CRAWL_FAILED")
    assert error["message"].startswith("image: the image ")
    assert reason in error["message"]
    assert error["details"]["field"] == "image"
    assert home.client.get("/api/models/blip-base").json()["loads"] == 0


def test_a_server_that_does_not_answer_ends_with_the_time_of_an_image(at_home: Callable[..., Any]) -> None:
    with at_home(crawl={"timeout_seconds": 0.2}) as home:
        home.serve(silent)
        error = refused(home.ask(CAT), 504, "TIMEOUT")
        assert error["message"] == "image: the image was not there within 0.2 s"
        items = home.ask(CAT, IN_BASE64).json()["captions"]
        assert [item.get("caption") for item in items] == [None, "a picture of dog"]


@pytest.mark.parametrize("bomb", [True, False])
def test_an_image_may_not_be_larger_than_a_page(at_home: Callable[..., Any], *, bomb: bool) -> None:
    unfolded = with_body(gzip.compress(bytes(3_000_000)), "Content-Encoding: gzip")
    with at_home(crawl={"max_page_mb": 1}) as home:
        home.serve(saying(unfolded) if bomb else endless)
        error = refused(home.ask(CAT), 413, "PAYLOAD_TOO_LARGE")
        assert error["details"] == {"max_bytes": 1024 * 1024, "field": "image"}


def test_the_images_of_a_request_may_not_be_larger_than_its_body(at_home: Callable[..., Any]) -> None:
    pages = {f"/{number}": with_body(b"image: cat".ljust(40_000)) for number in range(3)}
    with at_home(limits={"max_body_mb": 0.1}) as home:
        home.serve(answering(pages | {"/large": with_body(b"image: cat".ljust(110_000))}))
        refused(home.ask(f"http://{SITE}/large"), 413, "PAYLOAD_TOO_LARGE")
        items = home.ask(*(f"http://{SITE}/{number}" for number in range(3))).json()["captions"]
        (left_out,) = [item["error"] for item in items if "error" in item]
        assert left_out["code"] == "PAYLOAD_TOO_LARGE"
        assert "with the images that are fetched for it is larger than" in left_out["message"]
        assert home.ask(f"http://{SITE}/0", f"http://{SITE}/1").json()["captions"][1]["caption"] == "a picture of cat"


# --- beside other work


def test_a_slow_site_holds_neither_the_model_nor_the_decoder_and_requests_wait_in_bounds(
    at_home: Callable[..., Any],
) -> None:
    hosts = FakeHosts()
    held = asyncio.Event()
    resources = {"max_concurrent_requests": 1, "max_queued_requests": 0}
    with at_home(hosts, resources=resources) as home, asking(home.client, held) as (pool, go_on):
        home.serve(saying(AN_IMAGE, after=held))
        waiting = pool.submit(home.ask, CAT)
        while not home.internet.at_work:
            time.sleep(0.005)
        assert hosts.started == []
        assert home.client.get("/api/models/blip-base").json()["active_requests"] == 0
        assert home.ask(IN_BASE64).json()["caption"] == "a picture of dog"
        error = refused(home.ask(CAT), 503, "RESOURCE_EXHAUSTED")
        assert "wait for images" in error["message"]
        go_on()
        assert waiting.result().json()["caption"] == "a picture of cat"


def test_no_address_is_logged(home: Home, log: pytest.LogCaptureFixture) -> None:
    home.serve(echo)
    home.ask(f"http://{SITE}/private-holiday.png")
    home.ask("http://192.168.1.1/private-holiday.png")
    assert "private-holiday" not in log.text
    assert SITE not in log.text
