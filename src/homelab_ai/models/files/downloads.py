"""Downloads of models under way: each in a process of its own, and one for all who want the same model.

A download belongs to nobody: it goes on when those who wait for it have gone, and ends with the service, or with the
last model that is made of it. What has come is kept, and the next one goes on from there (`models.files.hub`).
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from homelab_ai.looks import look
from homelab_ai.models.catalogue import Model
from homelab_ai.models.clock import Clock
from homelab_ai.models.files import places
from homelab_ai.models.hosts.host import HostDied, HostLoadFailed, HostPlan, StartHost

log = logging.getLogger(__name__)

_SECONDS_TO_JUDGE_BY = 2.0

ENGINE = "homelab_ai.models.files.hub"
"""Dotted path of the engine module that downloads."""


class DownloadFailed(Exception):
    """The model could not be downloaded. The text says why, without paths of this machine."""


@dataclass(frozen=True)
class Progress:
    """How far a download is."""

    state: Literal["running", "done", "failed"]
    bytes: int = 0
    """What is here, of earlier tries too."""
    total_bytes: int | None = None
    """Unknown until the hub has been asked."""
    failure: str | None = None
    seconds_left: float | None = None
    """How long a running download will take yet, by what it has taken so far; None while that is not known."""

    @property
    def left(self) -> int:
        """Bytes that a running download will still take, as far as is known."""
        return max(0, (self.total_bytes or 0) - self.bytes) if self.state == "running" else 0


@dataclass(eq=False)
class _Download:
    started: float
    found: int = 0
    """Bytes that were here when it began to tell."""
    progress: Progress = field(default_factory=lambda: Progress("running"))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the next change; then there is another one."""
    task: asyncio.Task[None] | None = None

    def arrived(self, size: int, total: int, now: float) -> None:
        """Take note of how many bytes are here now, of how many."""
        if self.progress.state != "running":  # it has been ended, which its process may not know yet
            return
        if self.progress.total_bytes is None:
            self.started, self.found = now, size
        came, seconds = size - self.found, now - self.started
        left = (total - size) * seconds / came if came > 0 and seconds >= _SECONDS_TO_JUDGE_BY else None
        self.update(Progress("running", size, total, seconds_left=left))

    def end(self, failure: str | None = None) -> None:
        """Take note of its end. The first word on that is the last."""
        if self.progress.state != "running":
            return
        state: Literal["done", "failed"] = "failed" if failure else "done"
        self.update(replace(self.progress, state=state, failure=failure, seconds_left=None))

    def update(self, progress: Progress) -> None:
        self.progress = progress
        self.changed.set()
        self.changed = asyncio.Event()


_Source = tuple[str, str | None]
"""Hub name and revision: what two models have in common that one download serves."""


class Downloads:
    """All downloads since the start. Every method belongs to the event loop's thread."""

    def __init__(self, start_host: StartHost, models_dir: Path, clock: Clock) -> None:
        self._start_host = start_host
        self._models_dir = models_dir
        self._clock = clock
        self._downloads: dict[_Source, _Download] = {}
        self._purges: dict[str, asyncio.Task[int]] = {}
        """Under way, by hub name."""
        self._closed = False

    @staticmethod
    def are_one(model: Model, other: Model) -> bool:
        """Whether one download serves both."""
        return _source(model) == _source(other)

    def of(self, model: Model) -> Progress | None:
        """Return how far the model's download is, or how the last one ended; None if there was none."""
        download = self._downloads.get(_source(model))
        return download.progress if download else None

    def start(self, model: Model) -> None:
        """Have the model downloaded, whatever there is of it already. One that is under way goes on."""
        if self._closed:
            return
        source = _source(model)
        former = self._downloads.get(source)
        if not former or former.progress.state != "running":
            download = self._downloads[source] = _Download(self._clock.time())
            # With a context of its own: what it logs must not carry the id of the request that started it.
            work = self._carry_out(download, model)
            download.task = asyncio.create_task(work, context=contextvars.Context())

    async def have(self, model: Model) -> None:
        """Have the model's files on this machine. Raises `DownloadFailed`; may be cancelled at any time."""
        hf_model, revision = source = _source(model)
        if not places.is_hub_name(hf_model):
            return  # a folder; what is not even that, the engine will refuse in words
        await self._wait_for_purge(hf_model)
        before = self._downloads.get(source)
        going_on = before and before.progress.state == "running"
        found = await look(places.locate, hf_model, revision=revision, models_dir=self._models_dir)
        now = self._downloads.get(source)
        came_meanwhile = now and now.progress.state == "done" and (going_on or now is not before)
        if found or came_meanwhile:
            return
        self.start(model)
        async for progress in self.follow(model):
            if progress.failure:
                raise DownloadFailed(progress.failure)

    async def follow(self, model: Model) -> AsyncIterator[Progress]:
        """Yield how far the download is now and with every change, to its end; nothing if there was none."""
        download = self._downloads.get(_source(model))
        while download:
            changed, progress = download.changed, download.progress
            yield progress
            if progress.state != "running":
                break
            await changed.wait()

    def cancel(self, model: Model) -> list[asyncio.Task[None]]:
        """End the model's download. Returns what ends when its process is gone. What has come is kept."""
        return self._end([download for source, download in self._downloads.items() if source == _source(model)])

    async def purge(self, model: Model) -> int:
        """Remove all that was downloaded under the model's hub name, and return how many bytes that was.

        Whoever wants a model of that name waits meanwhile. It is done even when the caller gives up waiting.
        """
        hf_model = model.settings.hf_model
        purge = self._purges.get(hf_model)
        if not purge:
            # From this moment on: nothing can be begun that would find its files gone.
            purge = self._purges[hf_model] = asyncio.create_task(self._purge(hf_model))
            purge.add_done_callback(lambda _: self._purges.pop(hf_model))
        return await asyncio.shield(purge)

    async def close(self) -> None:
        """End all downloads, and wait until their processes are gone."""
        self._closed = True
        if ending := self._end(list(self._downloads.values())):
            await asyncio.wait(ending)

    async def _purge(self, hf_model: str) -> int:
        of_that_name = [download for source, download in self._downloads.items() if source[0] == hf_model]
        if ending := self._end(of_that_name):
            await asyncio.wait(ending)
        return await look(places.purge, hf_model, self._models_dir)

    @staticmethod
    def _end(downloads: list[_Download]) -> list[asyncio.Task[None]]:
        for download in downloads:
            if download.task and download.progress.state == "running":
                download.end("the download was ended")  # now, so that the next who wants it begins a new one
                download.task.cancel()  # once: a second time would interrupt the wait for its process
        return [download.task for download in downloads if download.task and not download.task.done()]

    async def _wait_for_purge(self, hf_model: str) -> None:
        while purge := self._purges.get(hf_model):
            await asyncio.wait([purge])

    async def _carry_out(self, download: _Download, model: Model) -> None:
        log.info("model %s is being downloaded", model.id)

        def on_progress(figures: Mapping[str, Any]) -> None:
            download.arrived(figures["bytes"], figures["total_bytes"], self._clock.time())

        try:
            await self._wait_for_purge(model.settings.hf_model)
            host = await self._start_host(self._plan(model), on_progress)
        except (HostLoadFailed, HostDied) as failure:
            download.end(str(failure))
        except Exception:
            log.exception("model %s could not be downloaded", model.id)
            download.end("a fault of the service")
        else:
            with contextlib.suppress(asyncio.CancelledError):  # it is done, whatever comes
                await host.stop()
            log.info("model %s is downloaded (%d MB)", model.id, download.progress.bytes // 1_000_000)
            download.end()

    def _plan(self, model: Model) -> HostPlan:
        hf_model, revision = _source(model)
        return HostPlan(
            model_id=model.id,
            engine=ENGINE,
            options={
                "hf_model": hf_model,
                "revision": revision,
                "models_dir": str(self._models_dir),
                "reserved_bytes": sum(other.progress.left for other in self._downloads.values()),
            },
            run_timeout_seconds=1,  # there are no runs
            purpose="downloaded",
        )


def _source(model: Model) -> _Source:
    return model.settings.hf_model, model.settings.revision
