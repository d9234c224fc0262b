"""Pages, and files that are to be there as a whole, as their servers send them: over plain HTTP, through the guard.

httpx2 is what huggingface_hub brings along anyway, so this needs no further library. Redirects are followed and
bodies decoded here: the library would send the caller's headers along to another site, and unfold a bomb before it can
be seen.
"""

import asyncio
import functools
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx2

from homelab_ai.crawling import decoding
from homelab_ai.crawling.egress.messages import BLOCKED, FAILED
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.pages import Fetched
from homelab_ai.crawling.passage import MayGo, Watch, blocked, failed
from homelab_ai.errors import CrawlFailed, PayloadTooLarge, RequestTimeout, ServiceError

# It would log the address of each page.
logging.getLogger("httpx2").setLevel(logging.WARNING)

USER_AGENT = "Mozilla/5.0 (compatible; homelab-ai-api)"
"""How the service introduces itself unless it is told otherwise."""

_MAX_REDIRECTS = 10
_BROKE_OFF = "its server broke off before it was there as a whole"
_PAGES = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def fetch(
    url: str,
    passage: Passage,
    *,
    headers: Mapping[str, str],
    user_agent: str | None,
    seconds: float,
    max_bytes: int,
    may_go: MayGo | None = None,
) -> Fetched:
    """Fetch a page. What has come after so many seconds, or in so many bytes, is returned as incomplete.

    `headers` go to the origin of `url` and to no other, cookies live as long as this call.

    Raises `CrawlBlocked`, `CrawlFailed`, or `RequestTimeout` when there is nothing by then, or what `may_go` raises.
    """
    fetching = _Fetching(passage, user_agent or USER_AGENT, max_bytes, Watch(passage), headers=headers, may_go=may_go)
    notes: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(seconds):
            await fetching.follow(url)
    except TimeoutError:
        if not fetching.url:
            raise RequestTimeout(
                f"The page did not answer within {seconds:g} s; give it more time with timeout_ms",
                details={"timeout_seconds": seconds},
            ) from None
        notes = ("it was not there as a whole within its time",)
    except _Cut as cut:
        notes = (str(cut),)
    return Fetched(
        url=fetching.url,
        status=fetching.status,
        content_type=fetching.content_type,
        body=bytes(fetching.body),
        complete=not notes,
        notes=notes,
    )


async def fetch_whole(
    url: str, passage: Passage, *, what: str, accept: str, user_agent: str | None, seconds: float, max_bytes: int
) -> bytes:
    """Fetch a file of which a part is of no use, nor is what its server sends in its place. Errors call it `what`.

    Raises `CrawlBlocked`, `CrawlFailed`, `RequestTimeout`, or `PayloadTooLarge`.
    """
    fetching = _Fetching(
        passage, user_agent or USER_AGENT, max_bytes, Watch(passage, what), what=what, accept=accept, whole=True
    )
    try:
        async with asyncio.timeout(seconds):
            await fetching.follow(url)
    except TimeoutError:
        raise RequestTimeout(
            f"The {what} was not there within {seconds:g} s", details={"timeout_seconds": seconds}
        ) from None
    except _TooLong:
        raise PayloadTooLarge(
            f"The {what} is larger than {max_bytes:,} bytes", details={"max_bytes": max_bytes}
        ) from None
    except _Cut as cut:
        raise failed(str(cut), what) from cut
    return bytes(fetching.body)


class _Cut(Exception):
    """Not all of the body is there. The text says why, and goes on with what is fetched."""


class _TooLong(_Cut):
    """It is longer than it may be."""


@dataclass
class _Fetching:
    """What is asked, and what there is of it so far. No `url`: no answer yet."""

    passage: Passage
    user_agent: str
    max_bytes: int
    watch: Watch
    what: str = "page"
    accept: str = _PAGES
    headers: Mapping[str, str] = field(default_factory=dict)
    may_go: MayGo | None = None
    whole: bool = False
    """Whether only the file itself will do, and no error page of its server."""
    url: str = ""
    status: int = 0
    content_type: str = ""
    body: bytearray = field(default_factory=bytearray)

    async def follow(self, url: str) -> None:
        """Fetch it, wherever it is by now. Raises `_Cut` where only a part has come."""
        passage = self.passage
        proxy = httpx2.Proxy(passage.proxy_url, auth=(passage.username, passage.password))
        try:
            # Without a time limit of its own: that of the whole is around it.
            async with httpx2.AsyncClient(proxy=proxy, verify=_tls(), trust_env=False, timeout=None) as client:
                client.headers.clear()
                await self._follow(httpx2.URL(url), client)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ssl.SSLError) as error:
            if not self.url:
                raise self._in_words(error) from error
            raise _Cut(_BROKE_OFF) from error

    async def _follow(self, target: httpx2.URL, client: httpx2.AsyncClient) -> None:
        home = _origin(target)
        ours = {"User-Agent": self.user_agent, "Accept": self.accept, "Accept-Encoding": decoding.ACCEPTED}
        own = dict(self.headers)
        for _ in range(_MAX_REDIRECTS + 1):
            if self.may_go:
                await self.may_go(str(target))
            sent = httpx2.Headers(ours)
            if _origin(target) == home:
                sent.update(own)
            request = client.build_request("GET", target, headers=sent, extensions=_as_a_proxy_is_asked(target))
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                self._check_the_guard(response)
                if not response.has_redirect_location:
                    await self._take(response)
                    return
            finally:
                await response.aclose()
            target = target.join(response.headers["Location"])
            if target.scheme not in {"http", "https"} or not target.host:
                raise CrawlFailed(f"The {self.what} redirects to what has no web address")
        raise CrawlFailed(f"The {self.what} redirects more than {_MAX_REDIRECTS} times")

    async def _take(self, response: httpx2.Response) -> None:
        if self.whole and response.status_code != HTTPStatus.OK:
            raise CrawlFailed(
                f"The {self.what} could not be fetched: its server has answered {response.status_code}",
                details={"status": response.status_code},
            )
        try:
            decoder = decoding.decoder_of(response.headers.get("Content-Encoding", ""))
        except decoding.UnknownCoding as error:
            raise CrawlFailed(f"The {self.what} is sent in a Content-Encoding that was not asked for") from error
        self.url, self.status = str(response.url), response.status_code
        self.content_type = response.headers.get("Content-Type", "")
        async for chunk in response.aiter_raw():
            await asyncio.sleep(0)  # chunks of a byte each are not to keep everybody else waiting
            try:
                # One byte more than may be, which tells whether there is more.
                self.body += decoder.decode(chunk, self.max_bytes + 1 - len(self.body))
            except decoding.Damaged as error:
                raise _Cut("a part of it is damaged and was left out") from error
            if len(self.body) > self.max_bytes:
                del self.body[self.max_bytes :]
                raise _TooLong(f"only its first {self.max_bytes} bytes were read")
        if not decoder.finished:
            raise _Cut(_BROKE_OFF)

    def _check_the_guard(self, response: httpx2.Response) -> None:
        """Raise what the guard has answered in the server's place."""
        if response.url.scheme != "http":  # within a tunnel, it is not the guard who speaks
            return
        if BLOCKED in response.headers:
            raise blocked(response.headers[BLOCKED], self.what)
        if FAILED in response.headers:
            raise failed(response.headers[FAILED], self.what)

    def _in_words(self, error: Exception) -> ServiceError:
        what = self.what
        if isinstance(error, httpx2.ProxyError):
            return self._of_the_guard(error)
        if (fault := _tls_fault(error)) is not None:
            reason = getattr(fault, "verify_message", "") or "its TLS cannot be spoken with"
            return CrawlFailed(f"The {what}'s server cannot be trusted: {reason}")
        if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | UnicodeError):
            return CrawlFailed(f"The {what}'s address, one that it redirects to, or a header is not well formed")
        if isinstance(error, httpx2.RemoteProtocolError):
            return CrawlFailed(f"The {what}'s server broke off, or does not speak HTTP")
        return CrawlFailed(
            f"The {what}'s server cannot be reached, or broke off: check the address, or try again later"
        )

    def _of_the_guard(self, error: httpx2.ProxyError) -> ServiceError:
        """What it answers to a CONNECT, of which the library keeps the status alone."""
        if said := self.watch.refusal() or self.watch.failure():
            return said
        if str(error).startswith(str(HTTPStatus.FORBIDDEN.value)):
            return blocked("its address is not allowed", self.what)
        return failed("its server was not found, or refuses connections", self.what)


def _tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    while error:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _as_a_proxy_is_asked(url: httpx2.URL) -> dict[str, bytes]:
    """The target of the request; of the library's own making, an IPv6 address in it would have lost its brackets."""
    return {"target": b"http://" + url.netloc + url.raw_path} if url.scheme == "http" else {}


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # without a port where it is the scheme's own


@functools.cache
def _tls() -> ssl.SSLContext:
    """What all fetches share: to read the certificates anew for each would take longer than many a page."""
    return httpx2.create_ssl_context(trust_env=False)
