"""`/admin/`: the page's files as they are, to whoever may connect, and how a browser finds and keeps them."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contract.answers import Response, serving
from homelab_ai.settings import Settings
from support.server import REPOSITORY

STATIC = REPOSITORY / "src" / "homelab_ai" / "admin" / "static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_strict(answer: Response) -> bool:
    """Whether a browser is told to let the page do nothing that it has no need of."""
    told = answer.headers
    return (told["Content-Security-Policy"], told["X-Content-Type-Options"], told["Referrer-Policy"]) == (
        *(POLICY, "nosniff"),
        "no-referrer",
    )


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(client: TestClient, name: str) -> None:
    answer = client.get(f"/admin/{name}")
    assert answer.status_code == 200
    assert answer.content == (STATIC / name).read_bytes()
    assert answer.headers["Content-Type"] == KINDS[Path(name).suffix]
    assert answer.headers["Cache-Control"] == "no-cache"
    assert is_strict(answer)


def test_the_page_itself_is_its_first_file(client: TestClient) -> None:
    assert client.get("/admin/").content == (STATIC / "index.html").read_bytes()


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    etag = client.get("/admin/").headers["ETag"]
    for offered in (etag, f"W/{etag}", f'"other", {etag}'):
        answer = client.get("/admin/", headers={"If-None-Match": offered})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
        assert is_strict(answer)
    assert client.get("/admin/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_says_the_same_without_the_file(client: TestClient) -> None:
    get, head = client.get("/admin/"), client.head("/admin/")
    assert head.status_code == 200
    for name in ("Content-Length", "Content-Type", "ETag"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("prefix", ["", "/ai"])
@pytest.mark.parametrize("path", ["/", "/admin"])
def test_a_browser_finds_the_page(settings: Settings, prefix: str, path: str) -> None:
    with serving(settings, server={"root_path": prefix}) as client:
        answer = client.get(prefix + path, headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (307, "admin/")
        assert is_strict(answer)
        arrived = client.get(prefix + path, headers=BROWSER)
        assert (arrived.status_code, arrived.url.path) == (200, f"{prefix}/admin/")


@pytest.mark.parametrize("accepted", ["*/*", "application/json", ""])
def test_a_program_finds_nothing_at_the_root(client: TestClient, accepted: str) -> None:
    assert client.get("/", headers={"Accept": accepted}).status_code == 404
