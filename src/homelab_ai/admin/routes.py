"""`GET /admin/`: the files of the page, and the ways that lead to it.

The files hold nothing that is not in the source, so they need no key; what the page shows it asks the API for, with the
key of whoever looks at it. They are read when somebody first opens the page, and kept: nothing of a path that a client
makes up ever comes near the disk.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).with_name("static")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_TO_THE_PAGE = "admin/"
"""From `/` as from `/admin`. Relative, so that it is right below the prefix of a proxy, too."""
_HEADERS = {
    "Cache-Control": "no-cache",  # kept by the browser, and asked for again: a new release is seen at once
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str
    """A digest: the times of files say nothing where a package gives all of them the same one."""


@cache
def _files() -> dict[str, _File]:
    """Every file of the page, by its path below `/admin/`."""
    found = {}
    for path in _STATIC.rglob("*"):
        if media_type := _MEDIA_TYPES.get(path.suffix):
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(_STATIC).as_posix()] = _File(content, media_type, etag)
    return found


@router.api_route("/admin/{name:path}", methods=["GET", "HEAD"])
async def file(request: Request, name: str) -> Response:
    """Answer with one file of the page, or with its first one."""
    found = _files().get(name or "index.html")
    if not found:
        raise HTTPException(404)
    headers = {**_HEADERS, "ETag": found.etag}
    if found.etag in _etags(request):
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)


@router.api_route("/admin", methods=["GET", "HEAD"])
async def without_slash() -> Response:
    """Lead to the page, whose files are named relative to its own address."""
    return RedirectResponse(_TO_THE_PAGE, headers=_HEADERS)


@router.api_route("/", methods=["GET", "HEAD"])
async def root(request: Request) -> Response:
    """Lead a browser to the page. There is nothing here for programs."""
    if "text/html" not in request.headers.get("Accept", ""):
        raise HTTPException(404)
    return RedirectResponse(_TO_THE_PAGE, headers={**_HEADERS, "Vary": "Accept"})


def _etags(request: Request) -> set[str]:
    """What the browser has of the file. A proxy that compresses marks an ETag as weak."""
    return {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
