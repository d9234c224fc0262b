"""`ImageFetcher` by itself: its places, its deadlines, and that nothing is left of what nobody waits for any more."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homelab_ai.crawling import images
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.images import ImageFetcher
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.errors import PayloadTooLarge, RequestTimeout, ServiceError
from homelab_ai.settings import Settings
from support.egress import SITE, Internet, saying, silent, with_body
from support.house import until

pytestmark = pytest.mark.anyio

URLS = [f"http://{SITE}/{number}" for number in range(6)]
AN_IMAGE = with_body(b"an image")


class Bench:
    """A fetcher in a made-up internet."""

    def __init__(self, internet: Internet, way_out: WayOut) -> None:
        self.internet = internet
        self.way_out = way_out
        self.taken: list[int] = []

    def fetcher(self, **sections: dict[str, Any]) -> ImageFetcher:
        return ImageFetcher(self.way_out, Settings.model_validate(sections))

    async def fetch(self, fetcher: ImageFetcher, *urls: str) -> dict[str, bytes | ServiceError]:
        return await fetcher.fetch(urls, allow_networks=(), take=self.taken.append)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    internet = Internet()
    way_out = WayOut(Guard(resolve=internet.resolve, dial=internet.dial, own_addresses=frozenset), Settings())
    yield Bench(internet, way_out)
    await way_out.close()
    await internet.close()


async def test_what_is_taken_is_what_came(bench: Bench) -> None:
    await bench.internet.serve(saying(AN_IMAGE))
    files = await bench.fetch(bench.fetcher(), *URLS[:2], URLS[0])
    assert files == dict.fromkeys(URLS[:2], b"an image")
    assert bench.taken == [8, 8]


async def test_what_the_request_may_not_hold_is_an_error_in_its_place(bench: Bench) -> None:
    await bench.internet.serve(saying(AN_IMAGE))
    refusal = PayloadTooLarge("No more")

    def take(_: int) -> None:
        raise refusal

    assert await bench.fetcher().fetch(URLS[:1], allow_networks=(), take=take) == {URLS[0]: refusal}


async def test_all_images_of_a_request_have_one_deadline(bench: Bench) -> None:
    await bench.internet.serve(silent)
    files = await bench.fetch(bench.fetcher(resources={"request_timeout_seconds": 0.2}), *URLS)
    assert len(URLS) > images.PLACES_OF_A_REQUEST
    for url in URLS:
        error = files[url]
        assert isinstance(error, RequestTimeout)
        assert "within the 0.2 s that all of a request have" in error.message
    assert bench.internet.arrived == images.PLACES_OF_A_REQUEST


async def test_places_are_those_of_all_requests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PLACES", 1)
    go_on = asyncio.Event()
    await bench.internet.serve(saying(AN_IMAGE, after=go_on))
    fetcher = bench.fetcher()
    first, second = (asyncio.create_task(bench.fetch(fetcher, url)) for url in URLS[:2])
    await until(lambda: bench.internet.at_work)
    await asyncio.sleep(0.05)  # in which the other would come, if it might
    assert bench.internet.arrived == 1
    go_on.set()
    assert await first == {URLS[0]: b"an image"}
    assert await second == {URLS[1]: b"an image"}


async def test_nothing_is_left_of_what_nobody_waits_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PLACES", 3)
    await bench.internet.serve(silent)
    fetcher = bench.fetcher()
    fetching = asyncio.create_task(bench.fetch(fetcher, *URLS))
    await until(lambda: bench.internet.at_work == 3)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await until(lambda: not bench.internet.at_work)
    assert bench.internet.arrived == 3
    bench.internet.names["other.example"] = [["1.1.1.1"]]
    await bench.internet.serve(saying(AN_IMAGE), "1.1.1.1")
    assert await bench.fetch(fetcher, "http://other.example/") == {"http://other.example/": b"an image"}, (
        "places are free"
    )
    assert bench.taken == [8]


async def test_changed_settings_are_followed(bench: Bench) -> None:
    await bench.internet.serve(saying(AN_IMAGE))
    fetcher = bench.fetcher()
    for sections in ({"crawl": {"max_page_mb": 7 / 1024**2}}, {"limits": {"max_body_mb": 7 / 1024**2}}):
        fetcher.follow(Settings.model_validate(sections))
        files = await bench.fetch(fetcher, URLS[0])
        error = files[URLS[0]]
        assert isinstance(error, PayloadTooLarge)
        assert error.details == {"max_bytes": 7}
    fetcher.follow(Settings())
    assert await bench.fetch(fetcher, URLS[0]) == {URLS[0]: b"an image"}
