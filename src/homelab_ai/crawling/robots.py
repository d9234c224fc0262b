"""What a site's robots.txt (RFC 9309) says of its pages: fetched through the guard, and remembered for a while.

`protego` reads the rules, and knows which of them counts. What the RFC says beside them stands here: where the file is,
what it means that there is none, and for how long it holds.
"""

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass, field

import httpx2
from protego import Protego

from homelab_ai.crawling import http
from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.pages import Fetched
from homelab_ai.crawling.passage import blocked
from homelab_ai.errors import CrawlFailed, RequestTimeout
from homelab_ai.models.clock import Clock

_HOLDS_SECONDS = 3600.0
"""The RFC allows a day; who opens a page of their own site wants to see it sooner."""
_FETCH_SECONDS = 10.0
_MOST_BYTES = 512 * 1024
"""Of one file; the RFC wants 500 KiB to be read."""
_MOST_SITES = 256
_MOST_BYTES_KEPT = 1024 * 1024
"""Of all files together: the rules of a hostile one take a hundred times its size."""

_CLOSED = "its site's robots.txt closes it to programs (crawl.respect_robots)"
_TOO_MANY_REQUESTS, _SERVER_ERROR, _OK = 429, 500, range(200, 300)

_NAME = re.compile(r"(?:Mozilla/\S+ \(compatible; *)?([\w-]+)", re.ASCII)
_AGENT = re.compile(r"\s*user(?:-|\s*)agent(?:\s*:|\s|$)\s*(\*(?=[\s#]|$)|[\w-]*)", re.ASCII | re.IGNORECASE)
"""A line that says for whom the rules are that follow, in every form in which `protego` takes it for one."""
_OTHERS = "?"
"""A name that nobody can have."""

_Key = tuple[str, Policy, str]


@dataclass
class _Site:
    """What is known of one robots.txt."""

    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever fetches it; the others wait for what comes of that."""
    rules: Protego | None = None
    size: int = 0
    holds_until: float = 0.0


class Robots:
    """Asks the sites. What one caller has learned is kept from those who may reach other networks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sites: OrderedDict[_Key, _Site] = OrderedDict()
        """The one that was not needed for longest comes first."""

    async def check(self, url: str, passage: Passage, user_agent: str | None) -> None:
        """Return if the site lets this page be fetched.

        Raises `CrawlBlocked`, of the guard as well; `CrawlFailed` where the site does not say, which counts as a no
        (RFC 9309 section 2.3.1.4) that is not remembered; or `RequestTimeout` when the passage is used up.
        """
        key = _key(url, passage.policy, user_agent)
        site = self._site(key)
        async with site.asking:
            if site.rules is None or self._clock.time() >= site.holds_until:
                text = await _asked(key[0], passage, user_agent)
                site.rules, site.size = await asyncio.to_thread(_read, text, key[2]), len(text)
                site.holds_until = self._clock.time() + _HOLDS_SECONDS
            rules = site.rules
        # Hundreds of milliseconds for rules that are made to take long.
        if not await asyncio.to_thread(rules.can_fetch, url, key[2]):
            raise blocked(_CLOSED)

    def delay(self, url: str, policy: Policy, user_agent: str | None) -> float | None:
        """Seconds that the site wants between two pages (`Crawl-delay`). None while it has not been asked."""
        key = _key(url, policy, user_agent)
        site = self._sites.get(key)
        return (site.rules.crawl_delay(key[2]) or 0.0) if site and site.rules else None

    def _site(self, key: _Key) -> _Site:
        if key not in self._sites:
            while len(self._sites) >= _MOST_SITES or sum(s.size for s in self._sites.values()) > _MOST_BYTES_KEPT:
                self._sites.popitem(last=False)
        site = self._sites.setdefault(key, _Site())
        self._sites.move_to_end(key)
        return site


def _key(url: str, policy: Policy, user_agent: str | None) -> _Key:
    """Where the robots.txt is, who wants it, and by which name."""
    name = _NAME.match(user_agent or http.USER_AGENT)
    return str(httpx2.URL(url).join("/robots.txt")), policy, name[1].lower() if name else "*"


async def _asked(url: str, passage: Passage, user_agent: str | None) -> str:
    """Return the text, empty where there is none."""
    try:
        return await _fetched(url, passage, user_agent)
    except CrawlFailed:
        if not passage.spent:
            raise
        raise RequestTimeout(
            "The site's robots.txt has not come within the time, or the bytes, of the page; give it more time with "
            "timeout_ms"
        ) from None


async def _fetched(url: str, passage: Passage, user_agent: str | None) -> str:
    try:
        fetched = await http.fetch(
            url, passage, headers={}, user_agent=user_agent, seconds=_FETCH_SECONDS, max_bytes=_MOST_BYTES
        )
    except RequestTimeout:
        raise _unknown(f"has not come within {_FETCH_SECONDS:g} s") from None
    except CrawlFailed as error:
        raise CrawlFailed(f"{error.message} (robots.txt is asked for first: crawl.respect_robots)") from error
    if fetched.status == _TOO_MANY_REQUESTS or fetched.status >= _SERVER_ERROR:
        raise _unknown(f"cannot be had at the moment (status {fetched.status})")
    return _text(fetched) if fetched.status in _OK else ""


def _text(fetched: Fetched) -> str:
    text = fetched.body.decode("utf-8-sig", "replace")
    if fetched.complete:
        return text
    if len(fetched.body) < _MOST_BYTES:
        raise _unknown("has not come as a whole")
    return "\n".join(text.splitlines()[:-1])  # half a line would close more than the whole does


def _unknown(why: str) -> CrawlFailed:
    return CrawlFailed(f"The site's robots.txt {why}, so its pages count as closed (crawl.respect_robots)")


def _read(text: str, name: str) -> Protego:
    """Read the rules for this program, and those for all.

    All others share a name: `protego` keeps the rules of a group once for each program that it names, which would be
    gigabytes for a file that is made for that. And it would take a group for `homelab` to be for `homelab-ai-api`.
    """

    def renamed(line: str) -> str:
        agent = _AGENT.match(line)
        if not agent:
            return line
        return f"User-agent: {agent[1] if agent[1].lower() in {name, '*'} else _OTHERS}"

    return Protego.parse("\n".join(map(renamed, text.splitlines())))
