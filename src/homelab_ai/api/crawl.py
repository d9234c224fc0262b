"""`POST /api/crawl`: the address of a web page in, its text out."""

import asyncio
from base64 import b64encode
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api.access import needs
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import READING, errors
from homelab_ai.api.reading import JsonRoute, RequestBody, while_connected
from homelab_ai.api.services import keep_from_own_port, services_of
from homelab_ai.crawling.service import Format, Order, Page
from homelab_ai.errors import CrawlBlocked, CrawlFailed, ModelLoadFailed, ResourceExhausted

router = APIRouter(route_class=JsonRoute, tags=["Pages"])


class CrawlRequest(RequestBody):
    """A page to read."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"url": "https://example.com", "screenshot": False, "wait_for_js": True}}
    )

    url: str = Field(description="Its address, with http:// or https://.", min_length=1, max_length=8192)
    screenshot: bool | Literal["full_page"] = Field(
        default=False, description="Whether to send a picture of it, as it fits the window or `full_page`."
    )
    wait_for_js: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether a browser shows it and runs its scripts (true), it is only fetched (false, the fastest), "
        "or a browser is taken where the page says little without its scripts.",
    )
    wait_for_selector: str | None = Field(
        default=None, max_length=1000, description="CSS: what the browser waits for, such as `article.loaded`."
    )
    timeout_ms: int | None = Field(
        default=None,
        ge=100,
        le=3_600_000,
        description="For all of it; what there is by then is sent. The most is `crawl.timeout_seconds`.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Headers for the page's own origin, and for no other, such as Authorization."
    )
    formats: list[Format] = Field(
        default=["text"], max_length=10, description="What to send of it, beside `text`, which always comes."
    )


class BlockedRequest(BaseModel):
    """Something that the page wanted and that was not fetched."""

    url: str
    reason: str


class CrawlResponse(BaseModel):
    """The page."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
                "url": "https://example.com/",
                "title": "Example Domain",
                "text": "This domain is for use in documentation examples.",
                "fetch_time_ms": 2000,
                "status": 200,
                "content_type": "text/html; charset=utf-8",
                "language": "en",
                "rendered": True,
                "complete": True,
                "strategy": "blocks",
                "blocked_requests": [],
                "notes": [],
            }
        }
    )

    request_id: str = Field(description="The request's id.")
    url: str = Field(description="Its address, after redirects.")
    title: str = Field(description="Its title; empty where it has none.")
    text: str = Field(description="Its main content, without navigation and the like.")
    markdown: str | None = Field(default=None, description="The same with headings, lists, tables and code.")
    html: str | None = Field(default=None, description="The page itself; if it was rendered, as its scripts left it.")
    links: list[dict[str, str]] | None = Field(default=None, description="`url` and `text` of each link.")
    metadata: dict[str, Any] | None = Field(default=None, description="What it says of itself: author, date, ...")
    screenshot_base64: str | None = Field(default=None, description="PNG.")
    fetch_time_ms: int = Field(description="Until it was there, with the wait for a place, but without reading it.")
    status: int = Field(description="That its server answered with. An error page is a page.")
    content_type: str
    language: str | None = Field(description="As the page says, such as `en`.")
    rendered: bool = Field(description="Whether a browser has shown it.")
    complete: bool = Field(description="False where something is missing; the notes say what.")
    strategy: str = Field(description="How its main content was found.")
    blocked_requests: list[BlockedRequest] = Field(description="What of it was refused, and why.")
    notes: list[str] = Field(description="What else there is to know, each the end of a sentence about the page.")


@router.post(
    "/api/crawl",
    summary="Read a web page",
    response_model=CrawlResponse,
    response_model_exclude_none=True,
    dependencies=[needs("crawl")],
    responses=errors(*READING, CrawlBlocked, CrawlFailed, ModelLoadFailed, ResourceExhausted),
)
async def crawl(request: Request, body: Annotated[CrawlRequest, Body()]) -> Response:
    """Fetch a page and send its main content as plain text, and whatever else of it is asked for.

    Only public addresses are fetched, and those that the configuration opens (`crawl.allow_networks`, `allow_hosts`):
    the page, whatever it redirects to, and everything that it loads. Nor is a page that a
    robots.txt closes, where `crawl.respect_robots` is on.
    """
    context, services = context_of(request.scope), services_of(request.scope)
    order = Order(
        url=body.url,
        wait_for_js=body.wait_for_js,
        screenshot=body.screenshot,
        wait_for_selector=body.wait_for_selector,
        timeout_seconds=None if body.timeout_ms is None else body.timeout_ms / 1000,
        headers=body.headers,
        formats=body.formats,
        allow_networks=context.identity.crawl_networks,
    )
    keep_from_own_port(request)
    page = await while_connected(request, services["crawling"].crawl(order))
    # A picture or a long page takes tens of milliseconds, for which others are not to wait.
    content = await asyncio.to_thread(lambda: orjson.dumps(_answer(context.request_id, page, body.formats)))
    return Response(content, media_type="application/json")


def _answer(request_id: str, page: Page, formats: list[Format]) -> dict[str, Any]:
    extracted = page.extracted
    answer = {
        "request_id": request_id,
        "url": page.url,
        "title": page.title,
        "text": extracted.text,
        "fetch_time_ms": round(page.fetch_seconds * 1000),
        "status": page.status,
        "content_type": page.content_type,
        "language": extracted.language,
        "rendered": page.rendered,
        "complete": page.complete,
        "strategy": extracted.strategy,
        "blocked_requests": [{"url": url, "reason": reason} for url, reason in page.blocked],
        "notes": page.notes,
    }
    if "markdown" in formats:
        answer["markdown"] = extracted.markdown
    if "html" in formats:
        answer["html"] = extracted.html
    if "links" in formats:
        answer["links"] = [{"url": url, "text": text} for url, text in extracted.links]
    if "metadata" in formats:
        answer["metadata"] = extracted.metadata
    if page.screenshot:
        answer["screenshot_base64"] = b64encode(page.screenshot).decode()
    return answer
