"""A web site on loopback to crawl, as a program of its own: `python -m benchmarks.site [FOLDER]`.

Of FOLDER it serves `html/NAME.html.gz` as `/NAME` (the form of the data set WCXB); without one, sixty pages of its own,
with the words of the licence. The first line that it writes is its port and the paths.
"""

import gzip
import json
import random
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

_PAGES = 60
_WORDS = Path("LICENSE").read_text().split()
_STYLE = "nav a { color: #036; padding: 4px } p { max-width: 60em } table { border: 1px solid }\n" * 40
_SCRIPT = "document.querySelectorAll('a').forEach(a => a.addEventListener('click', () => console.log(a.href)));\n" * 20


class Site(BaseHTTPRequestHandler):
    """Answers with a page, or 404."""

    protocol_version = "HTTP/1.1"
    pages: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        """Send the page."""
        body = self.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    Site.pages = dict(_pages_of(Path(sys.argv[1])) if len(sys.argv) > 1 else _own_pages())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    print(json.dumps({"port": server.server_address[1], "paths": sorted(Site.pages)}), flush=True)
    server.serve_forever()


def _pages_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted((folder / "html").glob("*.html.gz"))[:_PAGES]:
        yield f"/{file.name.partition('.')[0]}", gzip.decompress(file.read_bytes())


def _own_pages() -> Iterator[tuple[str, bytes]]:
    dice = random.Random(7)
    for number in range(_PAGES):
        links = "".join(f'<li><a href="/{other}">{_text(dice, 2)}</a></li>' for other in range(_PAGES))
        rows = "".join(f"<tr><td>{_text(dice, 3)}</td><td>{_text(dice, 1)}</td></tr>" for _ in range(10))
        parts = "".join(
            f"<h2>{_text(dice, 4)}</h2>" + "".join(f"<p>{_text(dice, 60)}</p>" for _ in range(5)) for _ in range(8)
        )
        html = (
            f"<!DOCTYPE html><html><head><title>{_text(dice, 5)}</title><style>{_STYLE}</style></head>"
            f"<body><nav><ul>{links}</ul></nav><main><h1>{_text(dice, 5)}</h1>{parts}<table>{rows}</table></main>"
            f"<aside><ul>{links}</ul></aside><footer>{_text(dice, 30)}</footer><script>{_SCRIPT}</script></body></html>"
        )
        yield f"/{number}", html.encode()


def _text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(_WORDS, k=words)).replace("<", "(").replace(">", ")")


if __name__ == "__main__":
    main()
