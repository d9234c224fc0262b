"""A gate with one key, and who may stand before it."""

import hashlib
import ipaddress
from typing import Any

from starlette.datastructures import Headers

from homelab_ai.api.access import Gate
from homelab_ai.api.client import Client
from homelab_ai.api.keys import KeyRing
from homelab_ai.settings import Settings

KEY = "correct-horse-battery-staple"


def gate(server: dict[str, Any] | None = None, **security: object) -> Gate:
    keys = [{"name": "app", "key_hash": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["embed"]}]
    settings = Settings.model_validate({"server": server, "security": {"api_keys": keys, **security}})
    return Gate(settings, KeyRing(settings.security, []))


def client(*addresses: str, direct: bool | None = None) -> Client:
    parsed = tuple(ipaddress.ip_address(address) for address in addresses)
    return Client(
        parsed, direct_from_loopback=all(address.is_loopback for address in parsed) if direct is None else direct
    )


def headers(host: str | None = "localhost:8000", **more: str | bytes) -> Headers:
    given = {"host": host, **more}
    return Headers(
        raw=[
            (name.replace("_", "-").lower().encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in given.items()
            if value is not None
        ]
    )


HOME, STRANGER = client("192.168.1.7"), client("203.0.113.9")
