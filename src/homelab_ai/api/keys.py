"""API keys and what they allow. A key is random, shown once, and known from then on only by its SHA-256."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from homelab_ai.settings import ALL_BUT_ADMIN, SecuritySettings
from homelab_ai.state import State, StoredKey

ALL_SCOPES: frozenset[str] = frozenset({*ALL_BUT_ADMIN, "admin"})

_PREFIX = "hlab_"
"""Lets a person, and the scanners that look for leaked keys, see what a string is."""


@dataclass(frozen=True)
class Identity:
    """Who is asking, and what they may do."""

    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    """Ids of the models they may use; `None` for all."""

    def may_use(self, model_id: str) -> bool:
        """Whether this model is among those they may use."""
        return self.models is None or model_id in self.models


NOBODY = Identity("nobody", frozenset())
"""Who asks where no question of access has been put: may do nothing."""


class KeyRing:
    """All keys that open the door: those of the configuration and those made at run time."""

    def __init__(self, configured: SecuritySettings, stored: Iterable[StoredKey]) -> None:
        self._identities = {
            key.key_hash: Identity(
                key.name, frozenset(key.scopes), None if key.models is None else frozenset(key.models)
            )
            for key in configured.api_keys
        } | {key.key_hash: Identity(key.name, frozenset(key.scopes)) for key in stored}

    def identify(self, key: bytes) -> Identity | None:
        """Return whose key this is, as it came. Takes the same time whatever part of it is right."""
        if not key:  # or the hash of nothing, which a slip in a shell makes, would open the door
            return None
        offered = hash_key(key)
        found = None
        for known, identity in self._identities.items():
            if hmac.compare_digest(known, offered):
                found = identity
        return found


def hash_key(key: bytes) -> str:
    """Return the SHA-256 of a key as lower-case hex, the form in which keys are configured and stored.

    A slow hash would add nothing: a key holds 256 random bits, so there is no dictionary to try.
    """
    return hashlib.sha256(key).hexdigest()


def make_first_key(settings: SecuritySettings, state: State, show: Callable[[str], None]) -> None:
    """Make the admin key of a first start, when authentication is on and there is no key at all.

    It is shown before it is stored: a key that is stored and that nobody has seen would lock everybody out. Raises
    `StateError`, and whatever `show` raises.
    """
    if not settings.auth_enabled or settings.api_keys or state.api_keys():
        return
    key = _PREFIX + secrets.token_urlsafe(32)
    show(key)
    state.add_api_key(StoredKey("admin", hash_key(key.encode()), tuple(sorted(ALL_SCOPES))))
