"""Web pages, four at a time, in turns with Crawl4AI: `python -m benchmarks.crawling [FOLDER]`.

Sixty pages of FOLDER (`benchmarks.site` says in which form), or of the benchmark's own, from a site on loopback. Both
take the same browser and give text, Markdown and links. Crawl4AI is installed into a cache of its own.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx2
from playwright.async_api import async_playwright
from rich.console import Console

from benchmarks import machine
from benchmarks.program import Program
from benchmarks.table import Row, table
from demo.service import Service
from homelab_ai.crawling.engines.chromium import find

_PEER = "crawl4ai==0.9.5"
_AT_ONCE = 4
_ROUNDS = 3
_PLAIN, _RENDERED = {"wait_for_js": False}, {"wait_for_js": True}


def measure(folder: Path | None, console: Console) -> list[Row]:
    """Return the rows: pages a second, ours over plain HTTP and by the browser, and the peer's by the browser."""
    with tempfile.TemporaryDirectory() as name, site(folder) as (port, paths):
        config = f"crawl: {{allow_networks: [127.0.0.1/32], allow_ports: [{port}]}}\n"
        (Path(name) / "config.yaml").write_text(config)
        addresses = [f"http://127.0.0.1:{port}{path}" for path in paths]
        with _peer(console) as peer, Service(Path(name)) as service:
            for how in (_PLAIN, _RENDERED):
                _seconds(service, addresses[:_AT_ONCE], how)
            if peer:
                peer.ask(addresses[:_AT_ONCE])
            plain, rendered, theirs = [], [], []
            for _ in range(_ROUNDS):
                plain.append(_seconds(service, addresses, _PLAIN))
                rendered.append(_seconds(service, addresses, _RENDERED))
                if peer:
                    theirs.append(peer.ask(addresses))
    return [
        _row(what, len(addresses), ours, theirs)
        for what, ours in (("pages over plain HTTP", plain), ("pages shown by the browser", rendered))
    ]


def _row(what: str, pages: int, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """Pages a second: the more the better, and so is the ratio."""
    mine = f"{pages / statistics.median(ours):.1f}/s"
    if not theirs:
        return Row(f"{what}, {_AT_ONCE} at a time", mine, "", "")
    ratio = statistics.median(other / own for own, other in zip(ours, theirs, strict=True))
    beside = f"Crawl4AI {pages / statistics.median(theirs):.1f}/s"
    return Row(f"{what}, {_AT_ONCE} at a time", mine, beside, f"{ratio:.1f}")


def _seconds(service: Service, addresses: Sequence[str], how: dict[str, bool]) -> float:
    """How long the service takes over these pages."""

    def crawl(address: str) -> None:
        body = {"url": address, "formats": ["markdown", "links"], **how}
        answer = client.post("/api/crawl", json=body)
        if answer.status_code != HTTPStatus.OK:
            sys.exit(f"{address}: {answer.status_code} {answer.text[:300]}")

    with (
        httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        started = time.perf_counter()
        list(pool.map(crawl, addresses))
        return time.perf_counter() - started


@contextmanager
def site(folder: Path | None = None) -> Iterator[tuple[int, list[str]]]:
    """Serve these pages, or the benchmark's own, on loopback: the port and the paths."""
    site = Program("benchmarks.site", *([str(folder)] if folder else []))
    try:
        yield site.about["port"], site.about["paths"]
    finally:
        site.close()


@contextmanager
def _peer(console: Console) -> Iterator[Program | None]:
    browser = asyncio.run(_browser())
    python = _installed(console)
    if not python:
        yield None
        return
    home = {"PLAYWRIGHT_BROWSERS_PATH": str(python.parents[1] / "browsers"), "CRAWL4AI_NO_CLOUD_NOTICE": "1"}
    peer = Program("benchmarks.crawl_peer", str(browser), python=python, environment=home)
    try:
        yield peer
    finally:
        peer.close()


async def _browser() -> Path:
    async with async_playwright() as playwright:
        return find(playwright) or Path(playwright.chromium.executable_path)


def _installed(console: Console) -> Path | None:
    """Return the interpreter that has Crawl4AI, installed now where it is not yet; None where that cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "homelab-ai-api" / _PEER.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        console.print(f"installing {_PEER} into {folder} ...")
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", _PEER], check=False)
        if done.returncode:
            console.print("Crawl4AI could not be installed: its figures are left out")
            return None
        (folder / "installed").touch()
    return python


if __name__ == "__main__":
    shown = Console(highlight=False)
    shown.print(machine.describe())
    shown.print(table(measure(Path(sys.argv[1]) if len(sys.argv) > 1 else None, shown), _ROUNDS))
