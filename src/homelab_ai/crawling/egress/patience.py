"""How long something is waited for, by a clock that may be a test's."""

import asyncio
from types import TracebackType
from typing import Self

from homelab_ai.models.clock import Clock, Timer


class Patience:
    """Ends what is inside with `TimeoutError` when so many seconds have passed since it was last renewed.

    Like `asyncio.timeout`, but renewing it costs nothing: the timer looks when it rings.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._scope = asyncio.timeout(None)
        self._since = 0.0
        self._timer: Timer | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self.renew()
        self._timer = self._clock.call_later(self._seconds, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def renew(self) -> None:
        """Begin to wait anew: something has moved."""
        self._since = self._clock.time()

    def _look(self) -> None:
        left = self._since + self._seconds - self._clock.time()
        if left > 0:
            self._timer = self._clock.call_later(left, self._look)
        else:
            self._scope.reschedule(asyncio.get_running_loop().time())
