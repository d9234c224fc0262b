"""The peer of the crawling figures: Crawl4AI as in its own quickstart, run by an interpreter that has it.

Reads one JSON list of addresses a line and crawls them, four at a time; answers with one line: the seconds that took.
It takes Playwright's own browsers only, so their names are made to lead to the one of this machine, as ours takes it.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig  # type: ignore[import-not-found]
from playwright.async_api import async_playwright

_AT_ONCE = 4
_FLAGS = ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
"""Nothing but the site of this machine is loaded: ours reaches nothing else either."""


async def main(browser: Path) -> None:
    """Start the browser, then crawl what comes."""
    await _lead_to(browser)
    async with AsyncWebCrawler(config=BrowserConfig(headless=True, verbose=False, extra_args=_FLAGS)) as crawler:
        print(json.dumps({"browser": str(browser)}), flush=True)
        for line in sys.stdin:
            addresses = json.loads(line)
            started = time.perf_counter()
            crawled = await _crawl(crawler, addresses)
            seconds = time.perf_counter() - started
            print(json.dumps(seconds * len(addresses) / max(1, crawled)), flush=True)  # a page that fails is none


async def _lead_to(browser: Path) -> None:
    async with async_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    shell = own.parents[2] / own.parents[1].name.replace("chromium-", "chromium_headless_shell-")
    for name in (own, shell / "chrome-headless-shell-linux64" / "chrome-headless-shell"):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        name.symlink_to(browser)


async def _crawl(crawler: AsyncWebCrawler, addresses: list[str]) -> int:
    """Return how many of the pages it has got."""
    config = CrawlerRunConfig(cache_mode=CacheMode.BYPASS, verbose=False, page_timeout=30_000)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(address: str) -> bool:
        async with places:
            return bool((await crawler.arun(address, config=config)).success)

    return sum(await asyncio.gather(*map(one, addresses)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
