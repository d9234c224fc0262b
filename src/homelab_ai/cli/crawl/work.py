"""From addresses to where their pages go: standard output, or a file each."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_ai.cli.asking import Asking, Post
from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.crawl import pages
from homelab_ai.cli.ending import Stop
from homelab_ai.cli.progress import Shown, showing
from homelab_ai.cli.writing import check_free, new_file, put, shown

_OF_THIS_PAGE = {
    "CRAWL_BLOCKED",
    "CRAWL_FAILED",
    "INTERNAL_ERROR",
    "INVALID_REQUEST",
    "PAYLOAD_TOO_LARGE",
    "TIMEOUT",
    "UNSUPPORTED_MEDIA_TYPE",
}
"""Codes of errors that another page need not have. The others (no key, switched off, ...) end the whole."""


@dataclass(frozen=True)
class Order:
    """What is to be read of each page, and where it goes."""

    body: dict[str, Any]
    """As the service has it, but for the address."""
    kind: str
    """One of `pages.ENDINGS`."""
    screenshot: Path | None
    output_dir: Path | None
    force: bool


def crawl_all(url: str, addresses: Sequence[str], order: Order) -> None:
    """Read all of them. Raises `Stop`, at the end where some could not be read."""
    addresses = [*dict.fromkeys(each if "://" in each else f"https://{each}" for each in addresses)]
    _check_places(addresses, order)
    failed = 0
    with showing("pages", len(addresses), beside_output=False) as progress:
        for address, result in Asking(url, progress.wait).each(addresses, lambda post, each: _ask(post, each, order)):
            if isinstance(result, ServiceUnavailableError):
                failed += 1
                progress.say(f"{address}: {result}")
            else:
                _say_what_is_missing(address, result, progress)
                _keep(address, result, order, headed=len(addresses) > 1)
            progress.advance(1, 1)
    if failed:
        raise Stop(f"{failed:,} of {len(addresses):,} pages could not be read")


def _check_places(addresses: Sequence[str], order: Order) -> None:
    """Find out before anything is read that what is read cannot be written."""
    if order.screenshot:
        check_free(order.screenshot, force=order.force)
    if order.output_dir:
        try:
            order.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Stop(f"{shown(order.output_dir)} is no folder: {error.strerror}") from error
        for address in addresses:
            check_free(order.output_dir / pages.file_name(address, order.kind), force=order.force)


def _ask(post: Post, address: str, order: Order) -> dict[str, Any] | ServiceUnavailableError:
    try:
        return post("/api/crawl", json={"url": address, **order.body}).body
    except ServiceUnavailableError as error:
        if error.code in _OF_THIS_PAGE:
            return error
        raise


def _say_what_is_missing(address: str, page: dict[str, Any], progress: Shown) -> None:
    if page["status"] >= 400:  # noqa: PLR2004 - RFC 9110, section 15.5
        progress.say(f"{address}: its server says {page['status']}; what is read is its error page")
    for note in page["notes"]:
        progress.say(f"{address}: {note}")
    for blocked in page["blocked_requests"]:
        progress.say(f"{address}: not loaded: {blocked['url']} ({blocked['reason']})")


def _keep(address: str, page: dict[str, Any], order: Order, *, headed: bool) -> None:
    if order.screenshot:
        picture = base64.b64decode(page["screenshot_base64"])
        with new_file(order.screenshot, force=order.force) as file:
            file.write(picture)
    text = pages.content(page, order.kind)
    if order.output_dir:
        with new_file(order.output_dir / pages.file_name(address, order.kind), force=order.force) as file:
            file.write(f"{text}\n".encode())
    elif headed and order.kind != "json":
        put(f"==> {address} <==\n{text}\n")
    else:
        put(text)
