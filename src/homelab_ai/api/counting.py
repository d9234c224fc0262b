"""How often somebody may ask: requests counted in a sliding window by `limits`, in this process or in Redis.

The window is the one that `limits` calls a sliding window counter: the count of the current window, and that of the
last one for the part of it which is not yet a whole window ago. It takes the same memory for every limit; the exact
one of `limits` keeps a line for each request, and makes it slow when there are many.
"""

import asyncio
import importlib.util
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit, urlunsplit

import limits
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from limits.aio.storage.redis.redispy import RedispyBridge

log = logging.getLogger(__name__)

_MOST_COUNTED = 2000
"""Keys and addresses that are counted in this process at a time; with more, all of them begin anew."""
_PATIENCE_SECONDS = 0.1
"""How long a request waits for Redis."""
_PAUSE_SECONDS = 5.0
"""For how long a Redis that did not answer is not asked again."""
_REDIS_PORT = 6379
_ROUNDING_SECONDS = 0.001
"""What is lost of the time of day in the divisions of `limits`, and more."""


class CounterUnavailableError(Exception):
    """Requests cannot be counted where `security.rate_limit_url` says. The text says why and what mends it."""


@dataclass(frozen=True)
class Quota:
    """What a limit leaves to somebody, after their request."""

    rate_limit: str
    """As configured, such as 600/minute."""
    limit: int
    remaining: int
    reset_seconds: int
    """When the current window ends; where nothing remains, when the next request will be let in."""
    allowed: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """The form of draft-ietf-httpapi-ratelimit-headers-03: two counts, and seconds from now."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


class MemoryCounter:
    """Counts in this process, for as long as it runs."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def hit(self, rate_limit: str, *name: str) -> Quota:
        """Count one request of whoever bears this name, if it is within the limit."""
        if len(self._storage.expirations) >= _MOST_COUNTED:  # each count looks at all of them
            await self._storage.reset()
        return await _hit(self._limiter, self._storage, rate_limit, name)

    async def look(self, rate_limit: str, *name: str) -> Quota:
        """Return what is left, without counting anything."""
        return await _look(self._storage, rate_limit, name)


class Counter:
    """Counts where `security.rate_limit_url` says; in this process while Redis is away."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        """`clock` gives seconds; the event loop's, unless another is given. Raises `CounterUnavailableError`."""
        self._memory = MemoryCounter()
        self._redis = None if url == "memory://" else _redis(url)
        self._limiter = self._redis and SlidingWindowCounterRateLimiter(self._redis)
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._away = False
        self._ask_again_at = 0.0

    async def hit(self, rate_limit: str, *name: str) -> Quota:
        """Count one request of whoever bears this name, if it is within the limit."""
        if self._redis and self._limiter and not (self._away and self._clock() < self._ask_again_at):
            self._ask_again_at = self._clock() + _PAUSE_SECONDS  # while it is away, one request waits for all
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    quota = await _hit(self._limiter, self._redis, rate_limit, name)
            except Exception as error:  # noqa: BLE001 - uvloop, idna, ...: whatever it is, the service goes on
                if not self._away:
                    cause = error.storage_error if isinstance(error, StorageError) else error
                    log.warning(
                        "Redis (security.rate_limit_url) does not answer (%s): requests are counted in this process "
                        "until it does",
                        type(cause).__name__,
                    )
                self._away = True
            else:
                if self._away:
                    log.warning("Redis (security.rate_limit_url) answers again: requests are counted there")
                self._away = False
                return quota
        return await self._memory.hit(rate_limit, *name)

    async def close(self) -> None:
        """Close the connections to Redis, if there are any."""
        if self._redis:
            await cast("RedispyBridge", self._redis.bridge).storage.aclose()


def _redis(url: str) -> RedisStorage:
    if not importlib.util.find_spec("redis"):
        raise CounterUnavailableError(
            "security.rate_limit_url names a Redis, and the Python package that talks to one is not installed. "
            'Install it with: .venv/bin/pip install -c constraints.txt -e ".[redis]"'
        )
    parts = urlsplit(url)
    if parts.hostname and not parts.port:  # which `limits` insists on
        url = urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{_REDIS_PORT}"))
    try:
        return RedisStorage(url, wrap_exceptions=True, implementation="redispy")
    except (ConfigurationError, ValueError, TypeError):  # whose text may hold the password
        raise CounterUnavailableError(
            "security.rate_limit_url cannot be used by the Python package redis; leave out what follows the `?`, or "
            "bring that package to the version of constraints.txt"
        ) from None


@lru_cache
def _item(rate_limit: str) -> limits.RateLimitItem:
    return limits.parse(rate_limit)


async def _hit(
    limiter: SlidingWindowCounterRateLimiter,
    storage: MemoryStorage | RedisStorage,
    rate_limit: str,
    name: tuple[str, ...],
) -> Quota:
    allowed = await limiter.hit(_item(rate_limit), *name)
    return await _look(storage, rate_limit, name, allowed=allowed)


async def _look(
    storage: MemoryStorage | RedisStorage, rate_limit: str, name: tuple[str, ...], *, allowed: bool = True
) -> Quota:
    item = _item(rate_limit)
    window, amount = item.get_expiry(), item.amount
    # `get_window_stats` of the library says when the count will next change, not when a request will be let in.
    before, before_left, now, left = await storage.get_sliding_window(item.key_for(*name), window)
    remaining = max(0, amount - now - math.floor(before * before_left / window)) if allowed else 0
    if remaining:
        wait = left - window if now else before_left
    elif before and now < amount:
        wait = before_left - (amount - now) * window / before
    else:
        wait = left - window
    # One second more than the whole ones, and not by a rounding one less: a request of that moment is let in.
    seconds = math.floor(max(wait, 0) + _ROUNDING_SECONDS) + 1
    return Quota(rate_limit, amount, remaining, seconds, allowed)
