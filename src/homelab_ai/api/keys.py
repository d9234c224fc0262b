"""API keys and what they allow. A key is random, shown once, and known from then on only by its SHA-256."""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from homelab_ai.errors import Conflict, NotFound, ResourceExhausted
from homelab_ai.settings import ALL_BUT_ADMIN, ApiKeySettings, SecuritySettings
from homelab_ai.state import State, StateError, StoredKey

log = logging.getLogger(__name__)

ALL_SCOPES: frozenset[str] = frozenset({*ALL_BUT_ADMIN, "admin"})

_PREFIX = "hlab_"
"""Lets a person, and the scanners that look for leaked keys, see what a string is."""

Authentication = Literal["key", "network", "localhost", "nobody"]
"""What says who is asking: a key, an address of `security.networks`, this machine itself, or nothing at all."""


@dataclass(frozen=True)
class Identity:
    """Who is asking, and what they may do."""

    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    """Ids of the models they may use; `None` for all."""
    rate_limit: str | None = None
    """Their own limit, such as 600/minute; `None` for that of all."""
    crawl_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks at home that they may have pages read from, beside those of `crawl.allow_networks`."""
    authenticated_by: Authentication = "key"

    @property
    def per_address(self) -> bool:
        """Whether it is no key's, but shared by many, each of whom is counted by address."""
        return self.authenticated_by != "key"

    def may_use(self, model_id: str) -> bool:
        """Whether this model is among those they may use."""
        return self.models is None or model_id in self.models


NOBODY = Identity("nobody", frozenset(), authenticated_by="nobody")
"""Who asks where no question of access has been put: may do nothing."""


@dataclass(frozen=True)
class KeyEntry:
    """What may be told of a key."""

    identity: Identity
    source: Literal["config", "state"]
    created_at: float | None
    """Seconds since 1970, as the next; `None` for a key of config.yaml."""
    last_used_at: float | None
    """`None` when it has not been used since the service started."""


class KeyRing:
    """All keys that open the door: those of the configuration and those made at run time.

    Where both use a name, or hold the same key, the configuration wins.
    """

    def __init__(self, configured: SecuritySettings, stored: Iterable[StoredKey]) -> None:
        self._stored = {key.name: key for key in stored}
        self._last_used: dict[str, float] = {}
        self._configured: dict[str, ApiKeySettings] = {}
        self.follow(configured)

    def follow(self, configured: SecuritySettings) -> None:
        """Take the keys of this configuration in the place of those of the last one, at once."""
        before = self._configured
        self._configured = {key.name: key for key in configured.api_keys}
        for name in self._stored.keys() & before.keys() - self._configured.keys():
            log.warning(
                "the key %r, made at run time, opens the door again: config.yaml has none of this name now", name
            )
        for name in self._stored.keys() & self._configured.keys():
            log.warning("the key %r, made at run time, opens nothing: config.yaml has one of this name now", name)
        self._lay_over()

    def add(self, key: StoredKey) -> None:
        """Let this key open the door from now on."""
        self._stored[key.name] = key
        self._lay_over()

    def remove(self, name: str) -> None:
        """Let the key of this name, made at run time, open the door no more."""
        del self._stored[name]
        self._last_used.pop(name, None)
        self._lay_over()

    def identify(self, key: bytes) -> Identity | None:
        """Return whose key this is, as it came. Takes the same time whatever part of it is right."""
        if not key:  # or the hash of nothing, which a slip in a shell makes, would open the door
            return None
        offered = hash_key(key)
        found = None
        for known, identity in self._identities.items():
            if hmac.compare_digest(known, offered):
                found = identity
        if found:
            self._last_used[found.name] = time.time()
        return found

    def entries(self) -> list[KeyEntry]:
        """Return what may be told of each key: those of the configuration first, then the others by age."""
        return [
            KeyEntry(
                identity,
                "config" if identity.name in self._configured else "state",
                None if identity.name in self._configured else self._stored[identity.name].created_at,
                self._last_used.get(identity.name),
            )
            for identity in self._identities.values()
        ]

    def has(self, name: str) -> bool:
        """Whether a key has this name, wherever it was made."""
        return name in self._configured or name in self._stored

    def is_configured(self, name: str) -> bool:
        """Whether config.yaml holds a key of this name."""
        return name in self._configured

    def is_stored(self, name: str) -> bool:
        """Whether a key of this name was made at run time, whether it opens the door or not."""
        return name in self._stored

    def _lay_over(self) -> None:
        configured = {key.key_hash: _identity(key.name, key) for key in self._configured.values()}
        stored = {
            key.key_hash: _identity(key.name, key) for key in self._stored.values() if key.name not in self._configured
        }
        self._identities = configured | {known: one for known, one in stored.items() if known not in configured}


def _identity(name: str, key: StoredKey | ApiKeySettings) -> Identity:
    models = None if key.models is None else frozenset(key.models)
    networks = key.crawl_allow_networks if isinstance(key, ApiKeySettings) else ()
    return Identity(name, frozenset(key.scopes), models, key.rate_limit, networks)


def hash_key(key: bytes) -> str:
    """Return the SHA-256 of a key as lower-case hex, the form in which keys are configured and stored.

    A slow hash would add nothing: a key holds 256 random bits, so there is no dictionary to try.
    """
    return hashlib.sha256(key).hexdigest()


def new_key() -> str:
    """Return a key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def make_key(ring: KeyRing, state: State, name: str, scopes: Iterable[str], **limits: Any) -> str:
    """Make a key, store its hash for good, and only then let it open the door and return it.

    `limits` are its `models` and `rate_limit`, as in `StoredKey`. Raises `Conflict`, or `ResourceExhausted` on a full
    disk.
    """
    if ring.has(name):
        where = "config.yaml" if ring.is_configured(name) else "the keys that were made at run time"
        raise Conflict(f"There is a key called {name!r} among {where}; choose another name", details={"key": name})
    key = new_key()
    stored = StoredKey(name, hash_key(key.encode()), tuple(sorted(scopes)), **limits)
    try:
        state.add_api_key(stored)
    except StateError as error:
        raise ResourceExhausted(f"No key was made, because it could not be kept. {error}") from error
    ring.add(stored)
    return key


def remove_key(ring: KeyRing, state: State, name: str, *, force: bool) -> None:
    """Have the key of this name open the door no more, now and after a restart.

    Raises `NotFound`, `Conflict` where it is not for this door to remove it, or `ResourceExhausted`.
    """
    if not ring.has(name):
        raise NotFound(f"No key is called {name!r}; GET /api/keys lists them", details={"key": name})
    if ring.is_configured(name) and not ring.is_stored(name):
        raise Conflict(
            f"The key {name!r} is one of config.yaml: remove it there, from security.api_keys", details={"key": name}
        )
    administrators = {entry.identity.name for entry in ring.entries() if "admin" in entry.identity.scopes}
    if administrators == {name} and not ring.is_configured(name) and not force:
        raise Conflict(
            f"{name!r} is the last key with the scope admin; make another one first, or add ?force=true",
            details={"key": name},
        )
    try:
        state.remove_api_key(name)
    except StateError as error:
        raise ResourceExhausted(f"The key was not removed, because that could not be kept. {error}") from error
    ring.remove(name)


def make_first_key(settings: SecuritySettings, state: State, show: Callable[[str], None]) -> None:
    """Make the admin key of a first start, when authentication is on and there is no key at all.

    It is shown before it is stored: a key that is stored and that nobody has seen would lock everybody out. Raises
    `StateError`, and whatever `show` raises.
    """
    if not settings.auth_enabled or settings.api_keys or state.api_keys():
        return
    key = new_key()
    show(key)
    state.add_api_key(StoredKey("admin", hash_key(key.encode()), tuple(sorted(ALL_SCOPES))))
