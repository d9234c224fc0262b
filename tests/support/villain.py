"""The villain: a site on the public internet whose pages want into the home, and the whole service that reads them.

The internet is made up (`support.egress`). Behind the villain's address stands its site; behind *every other* address,
at home or not, stands the secret, which counts whoever comes. So an attack that gets through is seen, and nothing is
sent to any other place than loopback, also where the guard or the browser is wrong: literal addresses in attacks are
spellings of this machine's own, and the other ones hide behind names that nobody but the made-up resolver knows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from homelab_ai.crawling.browser import Browser
from homelab_ai.crawling.browser_process import BrowserProcess
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.extractor import Extractor
from homelab_ai.crawling.politeness import Politeness
from homelab_ai.crawling.service import CrawlService, Order, Page
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.models.hosts.host import Host
from homelab_ai.settings import Settings
from support.egress import PUBLIC, Internet
from support.sites import Asked, Served, Site

VILLAIN = "villain.test"
TEXT = "The boiler in the cellar was serviced in March, and the chimney sweep has signed the book."
ORDINARY = Served(f"<!doctype html><title>Ordinary</title><main><h1>House</h1><p>{TEXT}</p><p>{TEXT}</p></main>")
SECRET = Served("<p>The secret", headers={"Access-Control-Allow-Origin": "*"})
"""What is at home lets every page read it: the browser is not to be the one who keeps them apart."""


class World:
    """The villain, the secret, and the service between them."""

    def __init__(self, villain: Site, secret: Site, flags: Sequence[str] = ()) -> None:
        self.villain, self.secret = villain, secret
        self.internet = Internet()
        self.internet.elsewhere = secret.port
        self.internet.put(villain.port)
        self.settings = Settings.model_validate(
            {"crawl": {"allow_ports": [80, 443, secret.port], "timeout_seconds": 20, "max_page_mb": 5}}
        )
        loop = asyncio.get_running_loop()
        self.guard = Guard(resolve=self.internet.resolve, dial=self.internet.dial, clock=loop, own_addresses=frozenset)
        self.browser = Browser(
            self.settings.crawl, loop, lambda options: BrowserProcess.start(options | {"flags": flags})
        )
        self.way_out, politeness = WayOut(self.guard, self.settings), Politeness(loop, self.settings.crawl)
        self.service = CrawlService(self.way_out, self.browser, Extractor(Host.start, loop), politeness, self.settings)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the last attack."""
        self.secret.arrived = 0
        self.secret.asked.clear()
        self.villain.asked.clear()
        secret = f"http://127.0.0.1:{self.secret.port}/"
        self.villain.pages = {
            "/ordinary": ORDINARY,
            "/effect": self.effect,
            "/to-the-secret": Served(status=302, headers={"Location": secret}),
            "/worker.js": Served(f"fetch('{secret}', {{mode: 'no-cors'}})", "text/javascript"),
        }
        self.internet.dialled.clear()
        self.internet.names = {
            VILLAIN: [[PUBLIC]],
            "router.test": [["192.168.1.1"]],
            "localhost": [["127.0.0.1", "::1"]],
        }

    async def crawl(self, path: str = "/", **wishes: Any) -> Page:
        """Have a page read, the villain's unless its whole address is given."""
        return await self.service.crawl(Order(path if "://" in path else f"http://{VILLAIN}{path}", **wishes))

    @property
    def refused(self) -> list[tuple[str, str]]:
        """What the guard has refused of the pages that are being read."""
        return [each for passage in self.guard._passages.values() for each in passage.blocked]

    async def effect(self, _: Asked) -> Served:
        """Answer when the attack has come to something: the secret was visited, or the guard has refused that."""
        while not (self.secret.arrived or self.refused):
            await asyncio.sleep(0.01)
        return Served("", "text/javascript")

    async def close(self) -> None:
        await self.service.close()
        await self.way_out.close()
        await self.internet.close()


@contextlib.asynccontextmanager
async def world(flags: Sequence[str] = ()) -> AsyncIterator[World]:
    """Everything, until the end of this context. The flags are for Chromium, beside those of the service."""
    async with Site({}) as villain, Site({}, otherwise=SECRET) as secret:
        opened = World(villain, secret, flags)
        try:
            yield opened
        finally:
            await opened.close()
