"""The keys in a data folder, while no service runs. Those of config.yaml are not known here."""

from typing import Any

from pydantic import ValidationError

from homelab_ai.api import key_routes
from homelab_ai.api.keys import KeyRing, remove_key
from homelab_ai.errors import InvalidRequest
from homelab_ai.settings import SecuritySettings
from homelab_ai.state import State


class StoredKeys:
    """The keys that were made at run time; they are made, listed and revoked as the service does it."""

    def __init__(self, state: State) -> None:
        """Raise `StateError`."""
        self._state = state
        self._ring = KeyRing(SecuritySettings(), state.api_keys())

    def add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make a key. Raises `InvalidRequest`, `Conflict` or `ResourceExhausted`."""
        try:
            request = key_routes.AddKeyRequest.model_validate(wanted)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest.at(str(first["loc"][0]), first["msg"]) from error
        return key_routes.make(self._ring, self._state, request).model_dump(mode="json")

    def entries(self) -> list[dict[str, Any]]:
        """Return what may be told of each key."""
        return [key_routes.KeyResponse.of(entry).model_dump(mode="json") for entry in self._ring.entries()]

    def remove(self, name: str, *, force: bool) -> None:
        """Revoke a key. Raises `NotFound`, `Conflict` or `ResourceExhausted`."""
        remove_key(self._ring, self._state, name, force=force)
