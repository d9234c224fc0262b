"""The settings in force, and what keeps them those of the configuration file while the service runs.

The file is looked at twice a second: that finds every way of changing it, where notifications of the system miss
folders that come over a network or into a container. It is read when it has looked the same twice, so that nobody reads
what is half written. What cannot be used is reported, and the last settings stay in force.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from homelab_ai.looks import look
from homelab_ai.settings import ConfigurationError, Settings
from homelab_ai.settings.source import Source, differences, is_live

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOKED_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0
"""How long a look at the file may take: it may be on a machine that has gone away."""

Apply = Callable[[Settings], None]
"""Puts settings into force, at once. Raises `ConfigurationError` where that cannot be, and has changed nothing then."""


class Configuration:
    """The settings in force. Every method belongs to the event loop's thread."""

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        """Without a `source` they stay as they are."""
        self.settings = settings
        self.loaded_at = time.time()
        """Seconds since 1970."""
        self.is_current = True
        """Whether what was read last could be used."""
        self.needing_restart: list[str] = []
        """Settings that were changed since the start and take effect with the next one."""
        self._started_with = settings
        self._source = source
        self._read = self._seen = source.loaded if source else None
        self._asked = asyncio.Event()
        self._late: asyncio.Future[Any] | None = None
        """A look that has taken too long. There is no other one until it has come back."""

    @contextlib.asynccontextmanager
    async def followed(self, apply: Apply) -> AsyncIterator[None]:
        """Have changes applied as long as this lasts: of the file, and on SIGHUP of whatever it is read from."""
        if not self._source:
            yield
            return
        with _on_hangup(self._asked.set):
            watching = asyncio.create_task(self._watch(self._source, apply))
            try:
                yield
            finally:
                for each in filter(None, (watching, self._late)):
                    each.cancel()
                await asyncio.wait([watching])

    async def _watch(self, source: Source, apply: Apply) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOKED_EVERY_SECONDS):
                    await self._asked.wait()
            try:
                await self.look(source, apply)
            except TimeoutError:
                if self.is_current:
                    log.error("the configuration file cannot be looked at: what holds it does not answer")  # noqa: TRY400
                self.is_current, self._read = False, None  # to be read when it is back
            except Exception:  # whatever it was, the next change is to be seen
                self.is_current = False
                log.exception("the configuration could not be put into force")

    async def look(self, source: Source, apply: Apply) -> None:
        """Look at the file once, and read it where that was asked for or it is another than was read.

        Raises `TimeoutError`.
        """
        found = await self._patiently(source.signature)
        settled, self._seen = found == self._seen, found
        if self._asked.is_set():
            self._asked.clear()
        elif found == self._read or not settled:
            return
        self._read = found
        try:
            settings = await self._patiently(source.load)
            apply(settings)
        except ConfigurationError as error:
            self.is_current = False
            log.error("the configuration has changed and cannot be used; the last one stays in force. %s", error)  # noqa: TRY400 - it is the operator's error, and tells all
            return
        changed = list(differences(self.settings, settings))
        self.settings, self.loaded_at, self.is_current = settings, time.time(), True
        self.needing_restart = [name for name in differences(self._started_with, settings) if not is_live(name)]
        log.info("the configuration was read anew: %s", f"{', '.join(changed)} changed" if changed else "no change")
        if waiting := [name for name in changed if not is_live(name)]:
            log.warning("what takes effect with the next start only: %s", ", ".join(waiting))

    async def _patiently(self, function: Callable[[], T]) -> T:
        if self._late:
            await asyncio.wait([self._late], timeout=_PATIENCE_SECONDS)
            if not self._late.done():
                raise TimeoutError
            self._late = None
        looking = asyncio.ensure_future(look(function))
        await asyncio.wait([looking], timeout=_PATIENCE_SECONDS)
        if not looking.done():
            self._late = looking
            raise TimeoutError
        return looking.result()


@contextlib.contextmanager
def _on_hangup(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` on SIGHUP, but in a terminal, whose end SIGHUP says: there it ends the service as it always did."""
    number: Any = getattr(signal, "SIGHUP", None)  # Windows has none
    in_terminal = sys.stdin is not None and sys.stdin.isatty()
    if number is None or in_terminal or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, notice)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
