"""What is measured, as Prometheus reads it (https://prometheus.io/docs/instrumenting/exposition_formats/).

`docs/monitoring.md` explains every metric. What happens is counted here when it happens; what there is at the moment is
asked for when somebody looks (`Now`). Each application has metrics of its own: nothing is registered globally.

No label can be made up from outside: an endpoint is the template of a route, a model one that is on offer, and the
series of a model go with it.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from homelab_ai.errors import ServiceError
from homelab_ai.telemetry.durations import Durations
from homelab_ai.telemetry.requests import ErrorSeen, Requests

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LOADS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class ModelNow:
    """One model on offer, at this moment."""

    id: str
    loaded: int
    active_requests: int
    queued_requests: int
    memory_bytes: int
    gpu_memory_bytes: int
    downloaded_bytes: int


@dataclass(frozen=True)
class GpuNow:
    """One GPU of the machine, whoever uses it."""

    memory_bytes: int
    memory_used_bytes: int


@dataclass(frozen=True)
class Now:
    """What there is at this moment."""

    models: Sequence[ModelNow]
    memory_used_bytes: int
    memory_budget_bytes: int
    gpu_memory_budget_bytes: int
    gpus: Sequence[GpuNow]
    configuration_is_current: bool
    configuration_loaded_at: float
    """Seconds since 1970."""


class Metrics:
    """The metrics of one application. Every method belongs to the event loop's thread.

    It is what `models.observer` calls an observer.
    """

    def __init__(self, version: str, reasons: Sequence[str]) -> None:
        """`reasons` are those for which a model may be unloaded."""
        self.requests = Requests()
        self.durations = Durations()
        self._version = version
        self._reasons = reasons
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._ended = Counter(
            "api_requests_total", "Requests that have ended.", ["endpoint", "status"], registry=registry
        )
        self._durations = Histogram(
            "api_request_duration_seconds",
            "How long requests took, to the last byte of the answer.",
            ["endpoint"],
            buckets=_ANSWERS,
            registry=registry,
        )
        self._errors = Counter("api_errors_total", "Errors, by their code.", ["code"], registry=registry)
        for error in ServiceError.__subclasses__():  # what has not happened yet is 0: an alert sees the first time, too
            self._errors.labels(error.code)

        self._pages = Counter("crawl_pages_total", "Pages read, images fetched.", ["way", "outcome"], registry=registry)
        self._pages_failed = Counter("crawl_failures_total", "Pages and images not.", ["code"], registry=registry)
        self._blocked = Counter("crawl_blocked_requests_total", "What the guard has refused.", registry=registry)

        for way, outcome in itertools.product(("http", "browser"), ("complete", "incomplete")):
            self._pages.labels(way, outcome)
        self._pages.labels("image", "complete")  # a part of one is of no use
        for code in ("CRAWL_BLOCKED", "CRAWL_FAILED"):
            self._pages_failed.labels(code)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, ["model", *labels], registry=registry)

        def histogram(name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, documentation, ["model"], buckets=buckets, registry=registry)

        self._loads = histogram("model_load_duration_seconds", "How long loads took that succeeded.", _LOADS)
        self._load_failures = counter("model_load_failures_total", "Loads, or downloads before them, that failed.")
        self._runs = histogram(
            "model_inference_duration_seconds", "How long runs took, each of one or many requests.", _ANSWERS
        )
        self._waits = histogram(
            "model_queue_wait_seconds", "How long requests waited for their first run, the load not counted.", _ANSWERS
        )
        self._items = histogram("model_batch_items", "How many texts or images there were in a run.", _ITEMS)
        self._tokens = counter("model_tokens_total", "Tokens that were read or, of captions, written.")
        self._unloads = counter("model_unloads_total", "Ends of model processes, and why.", "reason")
        self._deaths = counter("model_host_deaths_total", "Model processes that ended without being asked to.")
        self._of_models = (
            *(self._loads, self._load_failures, self._runs, self._waits),
            *(self._items, self._tokens, self._unloads, self._deaths),
        )

    # --- requests

    def request_begun(self) -> None:
        """One has come."""
        self.requests.begin()

    def request_ended(
        self, *, endpoint: str, status: int, seconds: float, code: str | None, request_id: str, stranger: bool
    ) -> None:
        """It has ended. `code` is that of its error, if any; a `stranger` is one who was not let in."""
        self._ended.labels(endpoint, str(status)).inc()
        self._durations.labels(endpoint).observe(seconds)
        error = None
        if code:
            self._errors.labels(code).inc()
            # What strangers are refused with would soon be all that is to be seen.
            if not stranger or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                error = ErrorSeen(datetime.now(UTC), status, code, endpoint, request_id)
        self.requests.end(status, error)

    # --- models: what `models.observer.Observer` says of each

    def loaded(self, model_id: str, seconds: float) -> None:
        """A load has succeeded."""
        self._loads.labels(model_id).observe(seconds)

    def load_failed(self, model_id: str) -> None:
        """A load has failed."""
        self._load_failures.labels(model_id).inc()

    def waited(self, model_id: str, seconds: float) -> None:
        """A request has waited for its first run."""
        self._waits.labels(model_id).observe(seconds)

    def ran(self, model_id: str, seconds: float, items: int, tokens: int) -> None:
        """A run has been answered."""
        self._runs.labels(model_id).observe(seconds)
        self._items.labels(model_id).observe(items)
        self._tokens.labels(model_id).inc(tokens)

    def answered(self, model_id: str, seconds: float) -> None:
        """A request has been answered."""
        self.durations.add(model_id, seconds)

    def unloaded(self, model_id: str, why: str) -> None:
        """The process of a model has ended."""
        self._unloads.labels(model_id, why).inc()

    def host_died(self, model_id: str) -> None:
        """It had not been asked to."""
        self._deaths.labels(model_id).inc()

    def removed(self, model_id: str) -> None:
        """The model is no longer on offer: its series go."""
        for metric in self._of_models:
            metric.remove_by_labels({"model": model_id})
        self.durations.forget(model_id)

    # --- pages and images: what `crawling.watcher.Watcher` says

    def crawled(self, way: str, outcome: str) -> None:
        """A page was read, or an image fetched."""
        self._pages.labels(way, outcome).inc()

    def crawl_failed(self, code: str) -> None:
        """A page or an image was not."""
        self._pages_failed.labels(code).inc()

    def crawl_blocked(self, count: int) -> None:
        """The guard has refused requests of a page or an image."""
        self._blocked.inc(count)

    # --- reading

    def exposition(self, now: Now) -> bytes:
        """Return everything as text. The request that asks for it is not counted among the active ones."""
        for model in now.models:
            self._load_failures.labels(model.id)
            self._deaths.labels(model.id)
            self._tokens.labels(model.id)
            for reason in self._reasons:
                self._unloads.labels(model.id, reason)
        return generate_latest(_Page(self._registry, self._gauges(now)))

    def _gauges(self, now: Now) -> Iterator[Metric]:
        yield InfoMetricFamily("homelab_ai_build", "The version that runs.", {"version": self._version})
        yield GaugeMetricFamily("active_requests", "Requests that are being answered.", self.requests.active)
        yield _of_each(now, "models_loaded", "1 for a model that is loaded, else 0.", "loaded")
        yield _of_each(now, "model_active_requests", "Requests that use the model, or wait for it.", "active_requests")
        yield _of_each(
            now, "model_queued_requests", "Those that wait for its load, or for their first run.", "queued_requests"
        )
        yield _of_each(now, "model_memory_bytes", "Main memory of its process, as last measured.", "memory_bytes")
        yield _of_each(now, "model_gpu_memory_bytes", "GPU memory, as its process reports it.", "gpu_memory_bytes")
        yield _of_each(
            now, "model_download_bytes", "What is here of its last download since the start.", "downloaded_bytes"
        )
        for name, documentation, value in (
            (
                "models_memory_used_bytes",
                "What models, loads, the browser and what reads pages take of the budget.",
                now.memory_used_bytes,
            ),
            ("models_memory_budget_bytes", "Main memory that they may take.", now.memory_budget_bytes),
            ("models_gpu_memory_budget_bytes", "GPU memory that models may take.", now.gpu_memory_budget_bytes),
            ("config_last_reload_successful", "0 while the file cannot be used.", int(now.configuration_is_current)),
            ("config_last_reload_success_timestamp_seconds", "When it was read.", now.configuration_loaded_at),
            (
                "gpu_memory_used_bytes",
                "GPU memory that models take, as their processes report it.",
                sum(model.gpu_memory_bytes for model in now.models),
            ),
        ):
            yield GaugeMetricFamily(name, documentation, value)
        total = GaugeMetricFamily("gpu_device_memory_bytes", "Memory of a GPU.", labels=["gpu"])
        used = GaugeMetricFamily("gpu_device_memory_used_bytes", "What all programs take of it.", labels=["gpu"])
        for number, gpu in enumerate(now.gpus):
            total.add_metric([str(number)], gpu.memory_bytes)
            used.add_metric([str(number)], gpu.memory_used_bytes)
        yield from (total, used)


class _Page(Collector):
    """What is counted, and what there is now.

    The `_created` series of the library are left out: to switch those off would be to do so for the whole process.
    """

    def __init__(self, counted: CollectorRegistry, now: Iterator[Metric]) -> None:
        self._counted = counted
        self._now = now

    def collect(self) -> Iterator[Metric]:
        for metric in self._counted.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._now


def _of_each(now: Now, name: str, documentation: str, field: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=["model"])
    for model in now.models:
        family.add_metric([model.id], getattr(model, field))
    return family
