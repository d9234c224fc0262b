"""`create_app`: the only place where the parts meet."""

import asyncio
import importlib
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import get_args

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homelab_ai.admin import routes as admin
from homelab_ai.api import (
    caption,
    crawl,
    documents,
    embed,
    health,
    key_routes,
    metrics,
    models,
    pulls,
    shutdown,
    status,
    stream,
    whoami,
)
from homelab_ai.api.access import AccessMiddleware, Gate
from homelab_ai.api.context import ContextMiddleware
from homelab_ai.api.counting import CounterUnavailableError
from homelab_ai.api.envelope import translate_http_exception, translate_validation_error
from homelab_ai.api.keys import KeyRing, make_first_key
from homelab_ai.api.reading import BodyLimits
from homelab_ai.api.services import Services
from homelab_ai.api.watching import Watching
from homelab_ai.captioning import service as captioning
from homelab_ai.captioning.decoder import Decoder
from homelab_ai.captioning.service import CaptionService
from homelab_ai.configuration import Configuration
from homelab_ai.crawling.browser import Browser
from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.extractor import Extractor
from homelab_ai.crawling.images import ImageFetcher
from homelab_ai.crawling.politeness import Politeness
from homelab_ai.crawling.service import CrawlService
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.embedding import service as embedding
from homelab_ai.embedding.service import EmbeddingService
from homelab_ai.models.catalogue import Kind
from homelab_ai.models.clock import Clock, SystemClock
from homelab_ai.models.device import Gpus, processor
from homelab_ai.models.hosts.host import Host, StartHost
from homelab_ai.models.observer import WhyUnloaded
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import ConfigurationError, Settings, Source, reserved_in_use
from homelab_ai.state import State, StateError
from homelab_ai.telemetry import logs
from homelab_ai.telemetry.history import History, Seen
from homelab_ai.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_ENGINES: dict[Kind, str] = {"text_embedding": embedding.ENGINE, "image_caption": captioning.ENGINE}

# FastAPI's own spans and logs would hold paths, queries and the texts of errors, and a variable could turn them on.
_NO_TELEMETRY = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)

_DESCRIPTION = """
Text embeddings, image captions and clean web pages for every app in a home.

Send an API key as `Authorization: Bearer <api-key>`. Every answer carries an `X-Request-ID`, which stands in the log
too (send your own, and it is kept); every error has one shape and a code that programs can rely on. Where a rate limit
is set, `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (in seconds) say what is left of it.
"""


def create_app(
    settings: Settings, start_host: StartHost = Host.start, clock: Clock | None = None, source: Source | None = None
) -> FastAPI:
    """Put the service together. Nothing is opened or started before the server starts it.

    `clock` is the time by which models are unloaded and tried again: this machine's, unless another is given. With
    the `source` of the settings, they are read anew when it changes.

    Raises:
        ConfigurationError: when a setting needs what is not installed.
    """
    release = version("homelab-ai-api")
    measured, configuration = Metrics(release, get_args(WhyUnloaded)), Configuration(settings, source)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Services]:
        tail = logs.configure(settings.logging.format, settings.logging.level)
        for name in reserved_in_use(settings):
            log.warning("%s is set, but has no effect in this version", name)
        state = State.open(settings.data_dir)
        try:
            make_first_key(settings.security, state, _show_first_key)
            gate = Gate(settings, KeyRing(settings.security, state.api_keys()))
            time = clock or SystemClock(asyncio.get_running_loop())
            registry = LocalModels(settings, _ENGINES, start_host, clock=time, state=state, observer=measured)
            decoder = Decoder(start_host, settings.limits.max_image_megapixels, time)
            gpus = Gpus(time)
            way_out = WayOut(Guard(clock=time, own_ports={settings.server.port}), settings, measured)
            browser = Browser(settings.crawl, time, room=registry.room)
            extractor = Extractor(start_host, time, room=registry.room)
            politeness = Politeness(time, settings.crawl)
            pages = CrawlService(way_out, browser, extractor, politeness, settings, watcher=measured)
            image_fetcher = ImageFetcher(way_out, settings, measured)
            embeddings, captions = EmbeddingService(registry, settings), CaptionService(registry, decoder, settings)

            def seen() -> Seen:
                totals = measured.requests.totals
                return Seen(totals.total, totals.failed, registry.queued_requests, registry.used.memory_bytes)

            history = History(seen, time.call_later)

            def apply(changed: Settings) -> None:
                try:
                    gate.follow(changed)
                except CounterUnavailableError as error:
                    raise ConfigurationError([str(error)]) from error
                for part in (registry, embeddings, captions, way_out, pages, image_fetcher):
                    part.follow(changed)

            try:
                with shutdown.noticed() as stopping:
                    async with configuration.followed(apply):
                        yield Services(
                            gate=gate,
                            state=state,
                            configuration=configuration,
                            models=registry,
                            embedding=embeddings,
                            captioning=captions,
                            crawling=pages,
                            way_out=way_out,
                            image_fetcher=image_fetcher,
                            metrics=measured,
                            history=history,
                            tail=tail,
                            watching=Watching(),
                            processor=processor(),
                            gpus=gpus,
                            started=monotonic(),
                            request_timeout_seconds=settings.resources.request_timeout_seconds,
                            stopping=stopping,
                        )
            finally:
                history.close()
                gpus.close()
                await pages.close()
                await way_out.close()
                await decoder.close()
                await registry.close()
                await gate.close()
        finally:
            state.close()

    app = FastAPIOffline(
        title="homelab-ai-api",
        description=_DESCRIPTION,
        version=release,
        redoc_url=None,
        static_url="/docs/assets",
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        middleware=[
            Middleware(_PlainStartErrors),
            *_tracing(settings),
            Middleware(ContextMiddleware, metrics=measured, root_path=settings.server.root_path),
            Middleware(AccessMiddleware),
            Middleware(
                BodyLimits,
                max_bytes=lambda: configuration.settings.limits.max_body_bytes,
                timeout_seconds=settings.resources.request_timeout_seconds,
            ),
        ],
        exception_handlers={
            HTTPException: translate_http_exception,
            RequestValidationError: translate_validation_error,
        },
    )
    for room in (embed, caption, crawl, pulls, models, key_routes, status, stream, whoami, metrics, health, admin):
        app.include_router(room.router)
    app.openapi = partial(documents.openapi, app)  # type: ignore[method-assign]
    return app


def _tracing(settings: Settings) -> list[Middleware]:
    if not settings.tracing.enabled:
        return []
    try:
        tracing = importlib.import_module("homelab_ai.telemetry.tracing")
    except ModuleNotFoundError as error:
        install = "pip install -c constraints.txt -e '.[tracing]'"
        raise ConfigurationError(
            [f"tracing.enabled: needs what is not installed; install it with: {install}"]
        ) from error
    return [Middleware(tracing.TracingMiddleware)]


_TO_BE_MENDED = (StateError, CounterUnavailableError)
"""What stops the start with a sentence for the operator."""


class _PlainStartErrors:
    """Lets the server print a sentence instead of a traceback when an operator can mend what stops the start."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_plainly(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and isinstance(error := sys.exception(), _TO_BE_MENDED):
                message = {**message, "message": str(error)}
            await send(message)

        await self._app(scope, receive, send_plainly if scope["type"] == "lifespan" else send)


def _show_first_key(key: str) -> None:
    print(  # noqa: T201 - a log would keep it; this is meant for the person at the terminal
        "\nThis is the first start and no API key is configured, so here is one that may do everything.\n"
        "It will be stored only as a hash and not be shown again:\n\n"
        f"    {key}\n\n"
        f'Use it like this: curl -H "Authorization: Bearer {key}" ...\n',
        file=sys.stderr,
        flush=True,
    )
