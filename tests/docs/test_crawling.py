"""docs/crawling.md: the fields that can be asked for, and the configuration that opens the home."""

import re

import yaml

from homelab_ai.api.crawl import CrawlRequest
from homelab_ai.crawling import browser, http, images, politeness, robots, service
from homelab_ai.crawling.engines import process
from homelab_ai.settings import CrawlSettings
from support.server import REPOSITORY

CRAWLING = (REPOSITORY / "docs" / "crawling.md").read_text()


def test_every_field_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", CRAWLING, re.MULTILINE)
    assert {"url", *rows} == CrawlRequest.model_fields.keys()


def test_the_ports_shown_are_those_of_the_settings() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", CRAWLING, re.DOTALL)
    assert yaml.safe_load(block)["crawl"]["allow_ports"] == list(CrawlSettings().allow_ports)


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"`crawl\.([a-z_]+)`", CRAWLING))
    assert named
    assert named <= CrawlSettings.model_fields.keys()


def test_the_numbers_are_those_of_the_images() -> None:
    assert f"{images.PLACES_OF_A_REQUEST} images of a request are fetched at once, {images.PLACES} of all" in CRAWLING


def test_the_numbers_are_those_of_the_browser() -> None:
    assert f"replaced after {browser._PAGES_OF_ONE_BROWSER} pages" in CRAWLING
    assert browser._PAGES_AT_ONCE == 4
    assert "four pages at once" in CRAWLING
    assert f"gets more than {process._MEMORY_BYTES // 1024**3} GB" in CRAWLING


def test_the_numbers_of_politeness_are_those_of_the_code() -> None:
    (section,) = re.findall(r"^## robots\.txt and politeness\n(.*?)^## ", CRAWLING, re.DOTALL | re.MULTILINE)
    assert http.USER_AGENT.endswith(" homelab-ai-api)")
    for text, number in (
        ("no answer within 10 s", robots._FETCH_SECONDS == 10),
        ("holds for an\n  hour", robots._HOLDS_SECONDS == 3600),
        ("512 KiB of it are read", robots._MOST_BYTES == 512 * 1024),
        ("up to 30 s", politeness._LONGEST_CRAWL_DELAY == 30),
        ("less than a quarter of its time", service._LEAST_PART == 0.25),
    ):
        assert text in section
        assert number, text
