"""Everything an operator can set, as one frozen tree with its defaults.

`loading` fills the tree from config.yaml and the environment, `example` and `reference` turn it into
config.example.yaml and docs/configuration.md, and every other module is handed the part that it needs. So each field is
written down once, here: its name, its type (the kinds of value live in `values`), its default, and a description for
the person who edits the file at home.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from homelab_ai.settings.models import ModelsSettings
from homelab_ai.settings.section import Section
from homelab_ai.settings.security import SecuritySettings
from homelab_ai.settings.values import (
    Amount,
    AmountOrAuto,
    AmountOrZero,
    Count,
    CountOrZero,
    Delay,
    Device,
    Folder,
    HostName,
    HostOrDomain,
    KeepAlive,
    Many,
    Network,
    Port,
    Switch,
    Text,
    UrlPrefix,
    expecting,
)

BYTES_PER_MB = 1024 * 1024


class ServerSettings(Section):
    """Where the service listens, and whom it believes about addresses."""

    host: HostName = Field(
        default="127.0.0.1",
        description="Address to listen on. 127.0.0.1 is reachable from this machine only; 0.0.0.0 from the whole "
        "network (IPv6: ::1 and ::).",
    )
    port: Port = Field(default=8000, description="TCP port to listen on.")
    root_path: UrlPrefix = Field(
        default="",
        description="Path under which a reverse proxy publishes the service, such as /ai. Empty when it has a host "
        "name or a port to itself.",
    )
    trusted_proxies: Many[Network] = Field(
        default=(),
        description="Addresses or networks of your reverse proxies. Only they are believed when they name the "
        "client's address (X-Forwarded-For or Forwarded; each must write one of them).",
    )
    allowed_hosts: Many[HostName] = Field(
        default=("localhost", "127.0.0.1", "::1"),
        description="Host names by which clients without a key may call the service, without http:// and port. It "
        "keeps web pages that you visit from reaching the service through your browser.",
    )


class ResourcesSettings(Section):
    """How much of the machine the service may use, and for how long."""

    device: Device = Field(
        default="auto",
        description="Where models run: auto (a GPU if there is one), cpu, cuda, cuda:0 (that one GPU) or mps (Apple).",
    )
    max_gpu_memory_gb: Amount = Field(
        default=8, description="GPU memory, in GB (of 1024 MB), that all loaded models together may take."
    )
    max_memory_gb: AmountOrAuto = Field(
        default="auto",
        description="Main memory, in GB (of 1024 MB), that models, the browser and what reads pages may take together. "
        "auto is 60% of what this machine or container has.",
    )
    max_concurrent_requests: Count = Field(
        default=4, description="Model runs and page loads at work at the same time; further requests wait."
    )
    max_queued_requests: CountOrZero = Field(
        default=256, description="Requests that may wait; further ones are answered 503 at once."
    )
    model_keep_alive_minutes: KeepAlive = Field(
        default=30,
        description="Minutes without a request after which a model is unloaded; 0 unloads it at once, -1 never (not "
        "even to make room for another).",
    )
    request_timeout_seconds: Amount = Field(
        default=120, description="Seconds after which a request is given up and answered 504."
    )
    local_model_roots: Many[Folder] = Field(
        default=(), description="Folders, beside models_dir, from which models may be added over HTTP."
    )


class BatchingSettings(Section):
    """How requests that arrive together share one run of the model."""

    window_ms: AmountOrZero = Field(
        default=5, description="Milliseconds to wait for more requests while several are arriving; 0 never waits."
    )
    max_items: Count = Field(default=256, description="Most texts in one run.")
    max_tokens: Count = Field(default=16384, description="Most tokens in one run.")


class LimitsSettings(Section):
    """How large one request may be."""

    max_body_mb: Amount = Field(default=64, description="Largest request body, in MB (of 1024 x 1024 bytes).")
    max_texts: Count = Field(default=4096, description="Most texts in one embedding request.")
    max_images: Count = Field(default=64, description="Most images in one captioning request.")
    max_image_megapixels: Amount = Field(default=64, description="Largest image, in millions of pixels.")

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mb` in bytes."""
        return int(self.max_body_mb * BYTES_PER_MB)


class LoggingSettings(Section):
    """What the two logs look like: requests on standard output, everything else on standard error."""

    format: Annotated[Literal["text", "json"], expecting("text or json")] = Field(
        default="text", description="text for people, or json: an object in each line, for programs that collect logs."
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], expecting("debug, info, warning or error")] = Field(
        default="info", description="From where on things are told. The lines of requests are always written."
    )


class TracingSettings(Section):
    """Whether each request is told to OpenTelemetry."""

    enabled: Switch = Field(
        default=False,
        description="Send a span for each request to a collector of OpenTelemetry. Where it is, say "
        "OTEL_EXPORTER_OTLP_ENDPOINT and OpenTelemetry's other variables (without them: this machine, port 4318). "
        "Needs the extra `tracing`.",
    )


class CrawlSettings(Section):
    """How web pages are read, and which of them may be."""

    enabled: Switch = Field(default=True, description="Whether pages can be read, and images fetched by their address.")
    allow_networks: Many[Network] = Field(
        default=(),
        description="Networks at home that may be crawled. Public addresses always may; this machine's own only as a "
        "network of one address.",
    )
    allow_hosts: Many[HostOrDomain] = Field(
        default=(),
        description="Host names at home that may be crawled, whatever their address. nas.lan is that host, .lan every "
        "host whose name ends so.",
    )
    allow_ports: Many[Port] = Field(default=(80, 443, 8080, 8443), description="Ports that may be crawled.")
    timeout_seconds: Amount = Field(default=30, description="Seconds after which a page, or an image, is given up.")
    max_page_mb: Amount = Field(
        default=20, description="Most MB that one page may load, with all that belongs to it, or one image."
    )
    browser_idle_minutes: KeepAlive = Field(
        default=5,
        description="Minutes without a page after which the browser ends; 0 ends it at once, -1 never (but to make "
        "room for a model).",
    )
    respect_robots: Switch = Field(
        default=False, description="Whether to stay away from pages that a site's robots.txt closes to programs."
    )
    delay_seconds: Delay = Field(
        default=0,
        description="Seconds between two pages of the same host, which then come one after the other. 0: as many at "
        "once as there are places. With respect_robots, the Crawl-delay of a robots.txt counts, too.",
    )
    user_agent: Text | None = Field(default=None, description="How to introduce itself to sites. null: as the browser.")


class Settings(Section):
    """The whole configuration. `Settings()` is what an empty config.yaml means."""

    server: ServerSettings = Field(default=ServerSettings(), description="Where the service listens.")
    data_dir: Folder = Field(
        default=Path("data"), description="Folder for what the service itself must remember (state.db)."
    )
    models_dir: Folder = Field(default=Path("models"), description="Folder for downloaded and converted models.")
    models: ModelsSettings = Field(
        default=ModelsSettings(),
        description="The models on offer. None of them takes memory before its first request. A list given here "
        "replaces the whole list of that type.",
    )
    resources: ResourcesSettings = Field(
        default=ResourcesSettings(), description="How much of the machine the service may use."
    )
    batching: BatchingSettings = Field(
        default=BatchingSettings(), description="How requests that arrive together share one run of a model."
    )
    limits: LimitsSettings = Field(default=LimitsSettings(), description="How large one request may be.")
    security: SecuritySettings = Field(default=SecuritySettings(), description="Who may use the service.")
    logging: LoggingSettings = Field(default=LoggingSettings(), description="What the logs look like.")
    tracing: TracingSettings = Field(
        default=TracingSettings(), description="Spans of OpenTelemetry. None is made, nor sent anywhere, by default."
    )
    crawl: CrawlSettings = Field(
        default=CrawlSettings(), description="How web pages are read, and which of them may be."
    )
