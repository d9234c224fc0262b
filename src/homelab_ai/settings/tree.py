"""Everything an operator can set, as one frozen tree with its defaults.

`loading` fills the tree from config.yaml and the environment, `example` turns it into
config.example.yaml, and every other module is handed the part that it needs. So each field is written down once, here:
its name, its type (the kinds of value live in `values`), its default, and a description for the person who
edits the file at home.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from homelab_ai.settings.values import (
    ALL_BUT_ADMIN,
    Alias,
    Amount,
    AmountOrAuto,
    AmountOrZero,
    AnyText,
    Count,
    CounterUrl,
    CountOrZero,
    Device,
    Folder,
    HostName,
    KeepAlive,
    KeyHash,
    Label,
    Many,
    Mark,
    ModelId,
    Network,
    NetworkScope,
    Place,
    Port,
    Precision,
    RateLimit,
    Scope,
    Some,
    Switch,
    Text,
    UrlPrefix,
    expecting,
    refuse,
    repeated,
    spell,
)

BYTES_PER_MB = 1024 * 1024


class _Frozen(BaseModel):
    """What all parts of the tree share: no unknown names, no silent conversions, no change after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Section(_Frozen):
    @model_validator(mode="before")
    @classmethod
    def _nothing_means_the_defaults(cls, data: Any) -> Any:
        # `server:` is read as null when all the lines below it are commented out.
        return {} if data is None else data


class ServerSettings(_Section):
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


class ModelEntry(_Frozen):
    """One model that the service offers, whatever its type."""

    id: ModelId = Field(description="Name by which requests choose the model, and which answers give back.")
    hf_model: Text = Field(description="Its name on huggingface.co, or the path of a folder that holds it.")
    enabled: Switch = Field(default=True, description="Whether requests may use it.")
    default: Switch = Field(
        default=False, description="Whether it answers requests that name no model. At most one of each type."
    )
    revision: Text | None = Field(
        default=None, description="Commit, tag or branch on huggingface.co to stay with. null follows the main branch."
    )
    aliases: Many[Alias] = Field(
        default=(), description="Other names that requests may use, such as the name that a program insists on."
    )
    device: Device = Field(
        default="auto", description="auto (what resources.device says), cpu, cuda, cuda:0 (that one GPU) or mps."
    )
    precision: Precision = Field(
        default="auto",
        description="Number format of the calculation: auto, float32 (exact), bfloat16 or float16 (smaller, faster).",
    )
    keep_alive_minutes: KeepAlive | None = Field(
        default=None,
        description="Minutes without a request after which it is unloaded; 0 unloads it at once, -1 never. null "
        "takes resources.model_keep_alive_minutes.",
    )
    backend: Annotated[Literal["auto", "openvino", "torch"], expecting("auto, openvino or torch")] = Field(
        default="auto",
        description="Engine that runs it: auto (openvino on the CPU where the model can be exported to it, else "
        "torch), openvino (a model that cannot be exported is refused then) or torch.",
    )

    @model_validator(mode="after")
    def _default_is_enabled(self) -> Self:
        if self.default and not self.enabled:
            refuse([(("default",), "a model that is the default must be enabled")])
        return self


class ImageCaptionModel(ModelEntry):
    """A model that describes images."""


class TextEmbeddingModel(ModelEntry):
    """A model that turns text into vectors."""

    dimensions: Count | None = Field(
        default=None,
        description="Length of its vectors. Checked against the model when it loads; null takes the model's word.",
    )
    max_length: Count | None = Field(
        default=None, description="Tokens of each text that are read; the rest is cut off. null: as the model says."
    )
    prompts: Annotated[dict[Text, AnyText], Mark.RESERVED] = Field(
        default_factory=dict,
        description='Text to put before the input, by purpose, such as {query: "query: ", document: "passage: "}.',
    )


class ModelsSettings(_Section):
    """The models on offer, by type. A list in the file replaces the default list of that type only."""

    image_caption: Many[ImageCaptionModel] = Field(
        default=(
            ImageCaptionModel(
                id="blip-base", hf_model="Salesforce/blip-image-captioning-base", enabled=True, default=True
            ),
            ImageCaptionModel(id="llava", hf_model="llava-hf/llava-1.5-7b-hf", enabled=False),
        ),
        description="Models that describe images. [] offers none.",
    )
    text_embedding: Many[TextEmbeddingModel] = Field(
        default=(
            TextEmbeddingModel(
                id="minilm",
                hf_model="sentence-transformers/all-MiniLM-L6-v2",
                dimensions=384,
                enabled=True,
                default=True,
            ),
            TextEmbeddingModel(
                id="mpnet", hf_model="sentence-transformers/all-mpnet-base-v2", dimensions=768, enabled=False
            ),
        ),
        description="Models that turn text into vectors. [] offers none.",
    )

    @model_validator(mode="after")
    def _requests_can_tell_models_apart(self) -> Self:
        names: list[tuple[Place, object]] = []
        defaults: list[tuple[Place, object]] = []
        # Lists left at their defaults come first: a clash is then reported where the operator wrote something.
        for kind in sorted(type(self).model_fields, key=lambda kind: kind in self.model_fields_set):
            entry: ModelEntry
            for index, entry in enumerate(getattr(self, kind)):
                names.append(((kind, index, "id"), entry.id.lower()))
                names += [((kind, index, "aliases", n), alias.lower()) for n, alias in enumerate(entry.aliases)]
                defaults += [((kind, index, "default"), kind)] if entry.default else []
        refuse(
            [
                (place, f"the same name as models.{spell(first)}; they must all differ")
                for place, first in repeated(names)
            ]
            + [(place, f"models.{spell(first)} is true already") for place, first in repeated(defaults)]
        )
        return self


class ResourcesSettings(_Section):
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
        description="Main memory, in GB (of 1024 MB), that models together may take. auto is 60% of what this machine "
        "or container has.",
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


class BatchingSettings(_Section):
    """How requests that arrive together share one run of the model."""

    window_ms: AmountOrZero = Field(
        default=5, description="Milliseconds to wait for more requests while several are arriving; 0 never waits."
    )
    max_items: Count = Field(default=256, description="Most texts in one run.")
    max_tokens: Count = Field(default=16384, description="Most tokens in one run.")


class LimitsSettings(_Section):
    """How large one request may be."""

    max_body_mb: Amount = Field(default=64, description="Largest request body, in MB (of 1024 x 1024 bytes).")
    max_texts: Count = Field(default=4096, description="Most texts in one embedding request.")
    max_images: Count = Field(default=64, description="Most images in one captioning request.")
    max_image_megapixels: Amount = Field(default=64, description="Largest image, in millions of pixels.")

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mb` in bytes."""
        return int(self.max_body_mb * BYTES_PER_MB)


class LoggingSettings(_Section):
    """What the two logs look like: requests on standard output, everything else on standard error."""

    format: Annotated[Literal["text", "json"], expecting("text or json")] = Field(
        default="text", description="text for people, or json: an object in each line, for programs that collect logs."
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], expecting("debug, info, warning or error")] = Field(
        default="info", description="From where on things are told. The lines of requests are always written."
    )


class TracingSettings(_Section):
    """Whether each request is told to OpenTelemetry."""

    enabled: Switch = Field(
        default=False,
        description="Send a span for each request to a collector of OpenTelemetry. Where it is, say "
        "OTEL_EXPORTER_OTLP_ENDPOINT and OpenTelemetry's other variables (without them: this machine, port 4318). "
        "Needs the extra `tracing`.",
    )


class ApiKeySettings(_Frozen):
    """One key, known by its hash, and what it opens."""

    name: Label = Field(description="Who uses the key, such as photo-album. For the logs, and so that you know.")
    key_hash: KeyHash = Field(
        description="SHA-256 of the key, so that this file does not hold the key itself. Make both with: "
        "KEY=$(openssl rand -hex 24); echo $KEY; printf %s $KEY | sha256sum"
    )
    scopes: Some[Scope] = Field(
        default=ALL_BUT_ADMIN,
        description="What it may do: embed, caption, crawl, read (models, status, metrics), admin (change things).",
    )
    models: Some[Text] | None = Field(default=None, description="The models it may use, by id. null: all of them.")
    rate_limit: RateLimit | None = Field(
        default=None, description="Its own limit, such as 600/minute. null takes security.rate_limit."
    )
    crawl_allow_networks: Annotated[Many[Network], Mark.RESERVED] = Field(
        default=(), description="Networks at home that it may crawl, beside those of crawl.allow_networks."
    )


class NetworkIdentity(_Frozen):
    """A network whose machines may do some things without a key."""

    cidr: Network = Field(description="The address or network, such as 192.168.1.0/24.")
    name: Label = Field(description="What to call its machines in the logs, such as living-room.")
    scopes: Some[NetworkScope] = Field(
        default=ALL_BUT_ADMIN, description="What they may do: embed, caption, crawl, read (models, status, metrics)."
    )


class SecuritySettings(_Section):
    """Who may enter: first the allowlist, then a key or the identity of a network."""

    auth_enabled: Switch = Field(default=True, description="Whether requests need a key (Authorization: Bearer <key>).")
    allow_localhost: Switch = Field(
        default=False,
        description="Whether programs on this machine need no key. Leave it off behind a reverse proxy on this "
        "machine: everything seems to come from here then.",
    )
    rate_limit: RateLimit | None = Field(
        default=None,
        description="Requests that each key may make, and each address without one, such as 600/minute. null: as many "
        "as they like.",
    )
    rate_limit_url: CounterUrl = Field(
        default="memory://",
        description="Where requests are counted: memory:// (begins anew with each start), or redis://host:6379/0, "
        "rediss://... or redis+unix:///path/of/redis.sock, which need the extra [redis].",
    )
    ip_allowlist: Many[Network] = Field(
        default=(),
        description="Addresses and networks that may connect at all, such as 192.168.1.0/24. Empty: any. It comes "
        "before the keys, and does not replace them.",
    )
    api_keys: Many[ApiKeySettings] = Field(
        default=(),
        description="The keys. While there is none at all, the first start makes an admin key and shows it once.",
    )
    networks: Many[NetworkIdentity] = Field(
        default=(), description="Networks at home whose machines may do some things without a key."
    )

    @model_validator(mode="after")
    def _identities_can_be_told_apart(self) -> Self:
        refuse(
            (place, f"the same as security.{spell(first)}; they must all differ")
            for listed, field in (("api_keys", "name"), ("api_keys", "key_hash"), ("networks", "cidr"))
            for place, first in repeated(
                ((listed, index, field), getattr(entry, field)) for index, entry in enumerate(getattr(self, listed))
            )
        )
        return self


class CrawlSettings(_Section):
    """How web pages are read, and which of them may be."""

    enabled: Switch = Field(default=True, description="Whether pages can be read at all.")
    allow_networks: Many[Network] = Field(
        default=(), description="Networks at home that may be crawled. Public addresses always may."
    )
    allow_hosts: Many[HostName] = Field(
        default=(), description="Host names at home that may be crawled, whatever their address."
    )
    allow_ports: Many[Port] = Field(default=(80, 443, 8080, 8443), description="Ports that may be crawled.")
    timeout_seconds: Amount = Field(default=30, description="Seconds after which a page is given up.")
    max_page_mb: Amount = Field(default=20, description="Most MB that one page may load, with all that belongs to it.")
    browser_idle_minutes: KeepAlive = Field(
        default=5, description="Minutes without a page after which the browser ends; 0 ends it at once, -1 never."
    )
    respect_robots: Switch = Field(
        default=False, description="Whether to stay away from pages that a site's robots.txt closes to programs."
    )
    user_agent: Text | None = Field(default=None, description="How to introduce itself to sites. null: as the browser.")


class Settings(_Section):
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
    crawl: Annotated[CrawlSettings, Mark.RESERVED] = Field(
        default=CrawlSettings(), description="How web pages are read, and which of them may be."
    )
