"""Who may enter, and how often: a part of the `tree`."""

from typing import Self

from pydantic import Field, model_validator

from homelab_ai.settings.section import Frozen, Section
from homelab_ai.settings.values import (
    ALL_BUT_ADMIN,
    CounterUrl,
    KeyHash,
    Label,
    Many,
    Network,
    NetworkScope,
    RateLimit,
    Scope,
    Some,
    Switch,
    Text,
    refuse,
    repeated,
    spell,
)


class ApiKeySettings(Frozen):
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
    crawl_allow_networks: Many[Network] = Field(
        default=(), description="Networks at home that it may crawl, beside those of crawl.allow_networks."
    )


class NetworkIdentity(Frozen):
    """A network whose machines may do some things without a key."""

    cidr: Network = Field(description="The address or network, such as 192.168.1.0/24.")
    name: Label = Field(description="What to call its machines in the logs, such as living-room.")
    scopes: Some[NetworkScope] = Field(
        default=ALL_BUT_ADMIN, description="What they may do: embed, caption, crawl, read (models, status, metrics)."
    )


class SecuritySettings(Section):
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
