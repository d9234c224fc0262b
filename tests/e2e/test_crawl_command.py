"""`homelab-ai crawl`: pages of a site on this machine that the service's configuration opens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from support.answering import Handler, answering
from support.commands import run
from support.server import Server

pytestmark = pytest.mark.timeout(120)

SENTENCE = "The boiler in the cellar was serviced in March, and the chimney sweep has signed the book."
ARTICLE = f"""<!doctype html><html lang="en"><head><title>The house book</title></head>
<body><nav><a href="/imprint">Imprint</a></nav>
<main><h1>The house book</h1><p>{SENTENCE} {SENTENCE}</p><h2>Rooms</h2><ul><li>The kitchen</li></ul>
<p>{SENTENCE}</p></main><footer>All rights reserved</footer></body></html>"""
SCRIPTED = """<!doctype html><html><head><title>Before</title></head><body><div id="root"></div>
<script>document.getElementById("root").innerHTML = "<main><h1>After</h1><p id='there'>" +
"What a script has written. ".repeat(9) + "</p></main>"; fetch("http://127.0.0.1:8081/").catch(() => 0)</script></body>
</html>"""


PAGES = {"/article.html": ARTICLE, "/scripted.html": SCRIPTED}


class Site(Handler):
    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.headers.get("X-House", ""))
        page = PAGES.get(self.path.partition("?")[0])
        self.answer((page or "<p>There is no such page</p>").encode(), status=200 if page else 404)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with answering(Site) as url:
        yield url


@pytest.fixture(scope="module")
def server(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = f"crawl: {{allow_hosts: [127.0.0.1], allow_ports: [80, {site.rpartition(':')[2]}], timeout_seconds: 20}}\n"
    with Server(tmp_path_factory.mktemp("crawling"), config=config) as server:
        yield server


def test_a_page_is_printed_as_it_is_wanted(server: Server, site: str) -> None:
    done = run(server.url, "crawl", f"{site}/article.html", "--header", "X-House: ours")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("The house book\n")
    assert SENTENCE in done.stdout
    assert "All rights" not in done.stdout
    assert Site.heard[-1] == "ours"
    assert "## Rooms" in run(server.url, "crawl", f"{site}/article.html", "--markdown").stdout
    assert run(server.url, "crawl", f"{site}/article.html", "--html").stdout == f"{ARTICLE}\n"
    assert run(server.url, "crawl", f"{site}/article.html", "--links").stdout == f"{site}/imprint\tImprint\n"
    page = json.loads(run(server.url, "crawl", f"{site}/article.html", "--json", "--markdown", "--links").stdout)
    assert (page["title"], page["status"]) == ("The house book", 200)
    assert {"text", "markdown", "links"} <= page.keys()
    assert "html" not in page


def test_several_pages_are_told_apart_and_a_failure_stops_none(server: Server, site: str) -> None:
    pages = (f"{site}/article.html", "http://127.0.0.1:8081/", f"{site}/missing")
    done = run(server.url, "crawl", *pages)
    assert done.exit_code == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("==>")] == [
        f"==> {pages[0]} <==",
        f"==> {pages[2]} <==",
    ]
    closed = "The page may not be fetched: port 8081 is not among those that are allowed; "
    closed += "in the service's config.yaml, crawl.allow_ports opens it"
    assert done.stderr.splitlines() == [
        f"{pages[1]}: {closed}",
        f"{pages[2]}: its server says 404; what is read is its error page",
        "1 of 3 pages could not be read",
    ]


def test_each_page_gets_a_file(server: Server, site: str, tmp_path: Path) -> None:
    pages = (f"{site}/article.html", f"{site}/article.html?page=2")
    done = run(server.url, "crawl", *pages, *pages, "--markdown", "--output-dir", tmp_path / "new" / "folder")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert len(files) == 2
    for file in files:
        assert file.name.startswith("127.0.0.1_")
        assert file.suffix == ".md"
        assert SENTENCE in file.read_text()
    done = run(server.url, "crawl", *pages, "--markdown", "--output-dir", tmp_path / "new" / "folder")
    assert (done.exit_code, "--force" in done.stderr) == (1, True)


def test_a_browser_shows_it_where_that_is_wanted(server: Server, site: str, tmp_path: Path) -> None:
    page = f"{site}/scripted.html"
    done = run(server.url, "crawl", page, "--wait-for-selector", "#there", "--screenshot", tmp_path / "page.png")
    assert done.exit_code == 0, done.stderr
    assert "What a script has written." in done.stdout
    assert "not loaded: http://127.0.0.1:8081/ (port 8081 is not among those that are allowed)" in done.stderr
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.format == "PNG"
    assert run(server.url, "crawl", page, "--no-wait-for-js").stdout.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("127.0.0.1:8081", "127.0.0.1:8081/b", "--screenshot", "x.png"), 2, "of one page"),
        (("127.0.0.1:8081", "--full-page"), 2, "--screenshot"),
        (("127.0.0.1:8081", "--html", "--links"), 2, "--json has both"),
        (("127.0.0.1:8081", "--header", "secret"), 2, "'Name: value'"),
        (("127.0.0.1:8081", "--timeout", "0"), 2, "--timeout"),
        (("127.0.0.1:8081", "--screenshot", "/nowhere/x.png"), 1, "no folder /nowhere"),
        (("127.0.0.1:8081", "--output-dir", "/dev/null"), 1, "/dev/null is no folder"),
        (("ftp://127.0.0.1",), 1, "url"),
        ((), 2, "URLS"),
    ],
)
def test_what_stands_in_the_way_is_said(server: Server, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = run(server.url, "crawl", *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said.lower() in done.stderr.lower()
    assert "secret" not in done.stderr
