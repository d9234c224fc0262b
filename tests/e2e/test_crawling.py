"""`POST /api/crawl` of a real service, on pages of a site on this machine that its configuration opens."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest
from PIL import Image

from support.answering import Handler, answering
from support.server import Server, free_port, wait_for

pytestmark = pytest.mark.timeout(120)

SENTENCE = "The boiler in the cellar was serviced in March, and the chimney sweep has signed the book."
ARTICLE = f"""<!doctype html><html lang="en"><head><title>The house book</title>
<meta name="author" content="Somebody"></head>
<body><nav><a href="/">Home</a> <a href="/imprint">Imprint</a></nav>
<main><h1>The house book</h1><p>{SENTENCE} {SENTENCE}</p>
<h2>Rooms</h2><ul><li>The kitchen</li><li>The hall</li></ul>
<table><tr><th>Room</th><th>Degrees</th></tr><tr><td>Kitchen</td><td>21</td></tr></table>
<pre><code>turn the valve</code></pre><p>{SENTENCE}</p></main>
<footer>All rights reserved</footer></body></html>"""
SCRIPTED = """<!doctype html><html><head><title>Before</title></head><body><div id="root"></div>
<script>document.title = "After"; document.getElementById("root").innerHTML =
"<main><h1>After</h1><p>" + "What a script has written, and nobody else. ".repeat(9) + "</p></main>"</script>
<img src="http://192.168.1.1/router.png"><script>fetch("http://10.0.0.1/").catch(() => 0)</script>
</body></html>"""
LEADS_AWAY = f"""<!doctype html><html><head><title>Only here</title>
<script>location.href = "https://" + location.host + "/article"</script></head>
<body><main><h1>Only here</h1><p>{SENTENCE} {SENTENCE}</p></main></body></html>"""
PAGES = {
    "/leads-away": ("text/html; charset=utf-8", LEADS_AWAY),
    "/article": ("text/html; charset=utf-8", ARTICLE),
    "/scripted": ("text/html; charset=utf-8", SCRIPTED),
    "/data": ("application/json", json.dumps({"temperature": 21.5})),
    "/picture": ("image/png", "not looked at"),
    "/empty": ("text/html", ""),
}


class Site(Handler):
    protocol_version = "HTTP/1.1"
    service_port: ClassVar[int] = 0
    heard: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.heard.append((path, self.headers.get("Authorization", "")))
        if path == "/home":
            return self.lead_to(f"http://127.0.0.1:{self.service_port}/api/models")
        if path == "/router":
            return self.lead_to("http://192.168.1.1/")
        kind, text = PAGES.get(path, ("text/html", "<p>There is no such page</p>"))
        return self.answer(text.encode(), kind, status=200 if path in PAGES else 404)

    def lead_to(self, url: str) -> None:
        self.answer(b"", status=302, headers={"Location": url})


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with answering(Site) as url:
        yield url


@pytest.fixture(scope="module")
def server(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = f"crawl: {{allow_hosts: [127.0.0.1], allow_ports: [80, {site.rpartition(':')[2]}], timeout_seconds: 20}}\n"
    with Server(tmp_path_factory.mktemp("crawling"), config=config) as server:
        Site.service_port = server.port
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_a_page_is_read(client: httpx.Client, site: str) -> None:
    answer = client.post(
        "/api/crawl", json={"url": f"{site}/article#rooms", "formats": ["markdown", "links", "metadata"]}
    )
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["request_id"] == answer.headers["X-Request-ID"]
    assert page["url"] == f"{site}/article"
    assert page["title"] == "The house book"
    assert SENTENCE in page["text"]
    assert "All rights reserved" not in page["text"]
    assert page["fetch_time_ms"] >= 0
    assert (page["status"], page["rendered"], page["complete"], page["language"]) == (200, False, True, "en")
    assert page["blocked_requests"] == []
    for line in ("## Rooms", "- The kitchen", "| Kitchen | 21 |", "turn the valve"):
        assert line in page["markdown"]
    assert {"url": f"{site}/imprint", "text": "Imprint"} in page["links"]
    assert page["metadata"]["author"] == "Somebody"
    assert "html" not in page
    assert "screenshot_base64" not in page


def test_what_scripts_write_is_read_and_what_they_may_not_reach_is_told(client: httpx.Client, site: str) -> None:
    page = client.post("/api/crawl", json={"url": f"{site}/scripted", "screenshot": False, "wait_for_js": True}).json()
    assert page["rendered"] is True
    assert page["title"] == "After"
    assert "What a script has written" in page["text"]
    assert any("10.0.0.1" in blocked["url"] for blocked in page["blocked_requests"])


def test_a_page_that_says_nothing_without_its_scripts_is_rendered_by_itself(client: httpx.Client, site: str) -> None:
    assert client.post("/api/crawl", json={"url": f"{site}/scripted"}).json()["rendered"] is True
    assert client.post("/api/crawl", json={"url": f"{site}/scripted", "wait_for_js": False}).json()["text"] == ""


def test_a_screenshot_is_one(client: httpx.Client, site: str) -> None:
    page = client.post("/api/crawl", json={"url": f"{site}/article", "screenshot": True}).json()
    picture = Image.open(io.BytesIO(base64.b64decode(page["screenshot_base64"])))
    assert picture.format == "PNG"
    assert picture.size[0] > 600
    colors = picture.convert("L").getcolors(300)
    assert colors
    assert len(colors) > 10, "there is something on it"


def test_other_files_are_read_or_refused(client: httpx.Client, site: str) -> None:
    data = client.post("/api/crawl", json={"url": f"{site}/data"}).json()
    assert "21.5" in data["text"]
    assert data["strategy"] == "json"
    assert client.post("/api/crawl", json={"url": f"{site}/empty"}).json()["text"] == ""
    missing = client.post("/api/crawl", json={"url": f"{site}/missing"}).json()
    assert (missing["status"], missing["text"]) == (404, "There is no such page")
    picture = client.post("/api/crawl", json={"url": f"{site}/picture"})
    assert (picture.status_code, picture.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("rendered", [True, False])
@pytest.mark.parametrize("path", ["/home", "/router"])
def test_a_redirect_leads_nowhere_at_home(client: httpx.Client, site: str, path: str, *, rendered: bool) -> None:
    answer = client.post("/api/crawl", json={"url": site + path, "wait_for_js": rendered})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CRAWL_BLOCKED"), answer.text


@pytest.mark.parametrize("rendered", [True, False])
@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.1/",
        "http://10.0.0.1:8080/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:192.168.1.1]/",
        "http://0xc0a80101/",
        "http://3232235777/",
        "http://localhost/",
        "http://127.0.0.1:8081/",
    ],
)
def test_nothing_at_home_is_read_unless_it_was_opened(client: httpx.Client, url: str, *, rendered: bool) -> None:
    answer = client.post("/api/crawl", json={"url": url, "wait_for_js": rendered})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CRAWL_BLOCKED"), answer.text


def test_the_service_itself_is_never_read(tmp_path: Path) -> None:
    port = free_port()
    config = f"crawl: {{allow_hosts: [127.0.0.1], allow_ports: [{port}]}}\n"
    with Server(tmp_path, config=config, port=port) as server, server.client() as client:
        answer = client.post("/api/crawl", json={"url": f"{server.url}/health", "wait_for_js": False})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CRAWL_BLOCKED"), answer.text
    assert "this service itself" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "view-source:http://example.com"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://user:secret@example.com/"}, "url"),
        ({"url": "http://example.com:99999/"}, "url"),
        ({"url": "http://exa mple.com/"}, "url"),
        ({"url": "http://example.com/", "screenshot": "half"}, "screenshot"),
        ({"url": "http://example.com/", "timeout_ms": 1}, "timeout_ms"),
        ({"url": "http://example.com/", "formats": ["pdf"]}, "formats[0]"),
        ({"url": "http://example.com/", "headers": {"A b": "c"}}, "headers"),
        ({"url": "http://example.com/", "headers": {"A": "b\r\nC: d"}}, "headers"),
        ({"url": "http://example.com/", "headers": {"Host": "b"}}, "headers"),
        ({"url": "http://example.com/", "headers": {"A": "é"}}, "headers"),
        ({"url": "http://☃.net/", "wait_for_js": True}, "url"),
        ({"url": "http://[::1]x/", "wait_for_js": True}, "url"),
        ({"url": "http://example.com/", "screenshot": True, "wait_for_js": False}, "screenshot"),
        ({"url": "http://example.com/", "wait": True}, "wait"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, asked: dict[str, object], field: str) -> None:
    answer = client.post("/api/crawl", json=asked)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["errors"][0]["field"].startswith(field)


def test_headers_go_to_the_page_and_the_service_keeps_nothing(client: httpx.Client, site: str) -> None:
    client.post("/api/crawl", json={"url": f"{site}/article", "headers": {"Authorization": "Basic abc"}})
    assert Site.heard[-1] == ("/article", "Basic abc")
    client.post("/api/crawl", json={"url": f"{site}/article"})
    assert Site.heard[-1] == ("/article", "")


def test_a_page_whose_script_leads_to_nothing_is_what_its_server_sends(client: httpx.Client, site: str) -> None:
    page = client.post("/api/crawl", json={"url": f"{site}/leads-away", "wait_for_js": True}).json()
    assert SENTENCE in page["text"]
    assert (page["rendered"], page["complete"]) == (False, False)
    assert page["notes"] == ["a script of it leads to another page, which cannot be loaded (ERR_SSL_PROTOCOL_ERROR)"]

    answer = client.post("/api/crawl", json={"url": f"{site}/leads-away", "screenshot": True})
    assert answer.status_code == 502
    assert "a script of it leads to another page" in answer.json()["error"]["message"]


def test_it_is_counted_and_seen(client: httpx.Client, site: str) -> None:
    client.post("/api/crawl", json={"url": f"{site}/scripted"})
    metrics = client.get("/metrics").text
    assert 'crawl_pages_total{outcome="complete",way="browser"}' in metrics
    assert 'crawl_failures_total{code="CRAWL_BLOCKED"}' in metrics
    status = client.get("/api/status").json()
    assert status["browser"]["running"] is True
    assert 50_000_000 < status["browser"]["memory_bytes"] < status["memory"]["used_bytes"], (
        "what reads pages counts too"
    )


def test_a_browser_without_room_is_refused_and_what_plain_http_has_got_is_sent(site: str, server: Server) -> None:
    config = (server.folder / "config.yaml").read_text()
    folder = server.folder / "small"
    folder.mkdir()
    with Server(folder, config=config + "resources: {max_memory_gb: 0.2}\n") as another, another.client() as client:
        answer = client.post("/api/crawl", json={"url": f"{site}/scripted", "wait_for_js": True})
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "RESOURCE_EXHAUSTED"
        assert "The browser needs" in error["message"]
        assert "resources.max_memory_gb allows 0.20 GB" in error["message"]
        page = client.post("/api/crawl", json={"url": f"{site}/scripted"}).json()
        assert page["rendered"] is False
        assert "The browser needs" in page["notes"][0]


def test_nothing_of_the_browser_stays_when_the_service_ends(site: str, server: Server) -> None:
    config = (server.folder / "config.yaml").read_text()
    folder = server.folder / "another"
    folder.mkdir()
    with Server(folder, config=config) as another, another.client() as client:
        assert client.post("/api/crawl", json={"url": f"{site}/scripted"}).json()["rendered"]
        processes = psutil.Process(another.process.pid).children(recursive=True)
        assert len(processes) > 3
    wait_for(lambda: not any(process.is_running() for process in processes))
