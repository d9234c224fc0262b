"""A running service that may read one site, on this machine, and what processes and folders it has for that."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil

from support.browsers import parts_of, zombies_below
from support.server import KEYLESS, Server
from support.sites import Pages, Site


class Reading:
    """The service, the site, and a client."""

    def __init__(self, server: Server, site: Site, client: httpx.AsyncClient, temporary: Path) -> None:
        self.server, self.site = server, site
        self._client, self._temporary = client, temporary

    async def crawl(self, path: str, **wishes: object) -> httpx.Response:
        url = f"http://127.0.0.1:{self.site.port}{path}"
        return await self._client.post("/api/crawl", json={"url": url} | wishes)

    def children(self) -> list[psutil.Process]:
        """All processes below the service."""
        return psutil.Process(self.server.process.pid).children(recursive=True)

    def browser(self) -> dict[str, list[psutil.Process]]:
        """Those of the browser, part by part."""
        return parts_of(self.server.process.pid)

    def zombies(self) -> list[psutil.Process]:
        return zombies_below(self.server.process.pid)

    def folders(self) -> list[Path]:
        """Those in which browsers keep what they write."""
        return [*self._temporary.glob("homelab-ai-browser-*")]


def configuration(site: Site, **crawl: object) -> str:
    """What opens the site to the service."""
    settings = {"allow_hosts": "[127.0.0.1]", "allow_ports": f"[{site.port}]", "timeout_seconds": 120} | crawl
    return "crawl: {" + ", ".join(f"{name}: {value}" for name, value in settings.items()) + "}\n"


@contextlib.asynccontextmanager
async def reading(folder: Path, pages: Pages) -> AsyncIterator[Reading]:
    """Start all of it in this folder."""
    temporary = folder / "temporary"
    temporary.mkdir()
    async with Site(pages) as site:
        environment = KEYLESS | {"TMPDIR": str(temporary)}
        with Server(folder, config=configuration(site), environment=environment) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=150, trust_env=False) as client:
                yield Reading(server, site, client, temporary)
