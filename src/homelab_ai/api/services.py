"""What the routes and middlewares work with, made once at the start and handed to each request as its state."""

import asyncio
from typing import TypedDict, cast

from starlette.requests import Request
from starlette.types import Scope

from homelab_ai.api.access import Gate
from homelab_ai.api.context import context_of
from homelab_ai.api.watching import Watching
from homelab_ai.captioning.service import CaptionService
from homelab_ai.configuration import Configuration
from homelab_ai.crawling.images import ImageFetcher
from homelab_ai.crawling.service import CrawlService
from homelab_ai.crawling.way_out import WayOut
from homelab_ai.embedding.service import EmbeddingService
from homelab_ai.models.catalogue import Model
from homelab_ai.models.device import Gpus, Processor
from homelab_ai.models.registry import LocalModels
from homelab_ai.state import State
from homelab_ai.telemetry.history import History
from homelab_ai.telemetry.metrics import Metrics
from homelab_ai.telemetry.tail import Tail


class Services(TypedDict):
    """The lifespan state (https://www.starlette.io/lifespan/), as `app` fills it."""

    gate: Gate
    state: State
    configuration: Configuration
    models: LocalModels
    embedding: EmbeddingService
    captioning: CaptionService
    crawling: CrawlService
    way_out: WayOut
    image_fetcher: ImageFetcher
    metrics: Metrics
    history: History
    tail: Tail
    watching: Watching
    processor: Processor
    gpus: Gpus
    started: float
    """By `time.monotonic`."""
    request_timeout_seconds: float
    stopping: asyncio.Event
    """Set when the service is told to stop, while its last requests are answered."""


def services_of(scope: Scope) -> Services:
    """Return the services of the application that this ASGI scope belongs to."""
    return cast("Services", scope["state"])


def model_named(request: Request, name: str) -> Model:
    """Return the model that a path names, and take note of it for the log. Raises `ModelNotFound`."""
    model = services_of(request.scope)["models"].catalogue.get(name)
    context_of(request.scope).model = model.id
    return model


def keep_from_own_port(request: Request) -> None:
    """Let nothing that is fetched lead back to the service: the command line may have named another port for it."""
    if server := request.scope.get("server"):
        services_of(request.scope)["way_out"].keep_from(server[1] or 0)
