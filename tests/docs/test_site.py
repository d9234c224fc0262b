"""The documentation as a site: built as `make docs` does, whole, and asking nobody else for anything."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from lxml import html

from support.server import REPOSITORY

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

PAGES = sorted(path.stem for path in (REPOSITORY / "docs").glob("*.md"))
LOADING = (
    "//link[not(@rel='next' or @rel='prev' or @rel='canonical')]/@href",
    "//*[not(self::a)]/@src",
    "//@srcset",
    "//@poster",
    "//object/@data",
    "//use/@href",
)
"""What a browser fetches without being asked to."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("docs") / "site"
    command = ["make", "docs", "SETUP=:", f"BIN={sys.prefix}/bin", f"SITE={site}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, html.HtmlElement]:
    """Each page, by the name of its file."""
    return {path.name: html.parse(str(path)).getroot() for path in site.glob("*.html")}


def navigation(page: html.HtmlElement) -> list[tuple[str, str]]:
    """The titles and addresses of the pages at its side, in their order; its own address is a mere #."""
    links = page.xpath("//*[contains(@class, 'sidebar-tree')]//a")
    return [(link.text_content(), link.get("href")) for link in links]


def test_every_page_has_its_place_beside_every_other(pages: dict[str, html.HtmlElement]) -> None:
    beside_the_first = navigation(pages["index.html"])
    assert sorted(page for _, page in beside_the_first) == [f"{name}.html" for name in PAGES if name != "index"]
    for page in pages.values():
        assert [title for title, _ in navigation(page)] == [title for title, _ in beside_the_first]


def test_the_readme_names_the_pages_in_the_same_order(pages: dict[str, html.HtmlElement]) -> None:
    last = (REPOSITORY / "README.md").read_text().rpartition("\n## ")[2]
    named = re.findall(r"\[([^\]]+)\]\((?:docs/)?(\w+)\.md\)", last)
    assert [(title, f"{page.lower()}.html") for title, page in named] == navigation(pages["index.html"])


def test_every_link_leads_to_a_page_a_place_or_a_file(site: Path, pages: dict[str, html.HtmlElement]) -> None:
    places = {name: {*page.xpath("//@id")} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for address in (*page.xpath("//a/@href"), *page.xpath("//@src"), *page.xpath("//link/@href")):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address == "#":
                continue
            target = unquote(parts.path) or name
            if not (site / target).is_file() or (parts.fragment and unquote(parts.fragment) not in places[target]):
                broken.append(f"{name}: {address}")
    assert broken == []


def loaded(site: Path, pages: dict[str, html.HtmlElement]) -> Iterator[str]:
    """All that pages and style sheets have a browser load."""
    styles = [path.read_text() for path in site.rglob("*.css")]
    for page in pages.values():
        for way in LOADING:
            yield from page.xpath(way)
        styles += [*page.xpath("//style/text()"), *page.xpath("//@style")]
    for style in styles:
        yield from re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", style)


def test_nothing_comes_from_another_host(site: Path, pages: dict[str, html.HtmlElement]) -> None:
    addresses = [*loaded(site, pages)]
    assert len(addresses) > 100
    assert [address for address in addresses if urlsplit(address).netloc or address.startswith("//")] == []


def test_pictures_follow_the_switch_between_light_and_dark(pages: dict[str, html.HtmlElement]) -> None:
    for name in ("index.html", "admin.html"):
        light, dark = (pages[name].xpath(f"//article//img[@class='only-{scheme}']") for scheme in ("light", "dark"))
        assert light
        assert [image.get("src").replace("light", "dark") for image in light] == [image.get("src") for image in dark]
        assert all(image.get("alt") for image in (*light, *dark))


def test_what_is_published_is_nothing_but_the_site(site: Path) -> None:
    kinds = {path.suffix for path in site.rglob("*") if path.is_file() and "_downloads" not in path.parts}
    assert kinds <= {".html", ".js", ".css", ".png", ".svg", ".inv", ".map", ".txt", ""}
