"""The running service, as commands see it."""

import http
import os
from typing import Any

import httpx2

KEY_VARIABLE = "HOMELAB_AI_API_KEY"

_TIMEOUT_SECONDS = 600.0
"""The service gives a request up before, in whatever time its configuration says."""


def own_key() -> str:
    """Return the key of whoever runs the command; empty where there is none."""
    return os.environ.get(KEY_VARIABLE, "").strip()


class ServiceUnavailableError(Exception):
    """The service does not answer, or refuses. The text is for the person at the keyboard."""

    def __init__(
        self, message: str, status: int | None = None, code: str = "", retry_after_seconds: int | None = None
    ) -> None:
        """`status` is that of the answer, where there was one; `code` and the time to wait are what it said."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class Client:
    """One connection to the service, used from one thread.

    Its key is taken from the environment: what stands on a command line is seen by everybody on the machine.
    """

    def __init__(self, url: str) -> None:
        """Connect when there is something to ask. Raises `ServiceUnavailableError` for an address that is none."""
        self._url = url
        key = own_key()
        if not key.isascii() or any(character.isspace() for character in key):
            raise ServiceUnavailableError(f"What {KEY_VARIABLE} holds is no key: a key has no such characters")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS)
        except (httpx2.InvalidURL, ValueError) as error:
            raise ServiceUnavailableError(f"{url!r} is no address of a service: {error}") from error

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each model, by id. Raises `ServiceUnavailableError`."""
        answer = self.get("/api/models")
        try:
            return {model["id"]: model for model in answer["models"]}
        except (KeyError, TypeError) as error:
            raise self._another("GET", "/api/models", "with something else") from error

    def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a GET. Raises `ServiceUnavailableError`."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a POST. Raises `ServiceUnavailableError`."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        """Return the answer to a DELETE. Raises `ServiceUnavailableError`."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServiceUnavailableError(
                f"No service answers at {self._url} ({reason}); start one with `homelab-ai serve`, or say where it is "
                "with --url or HOMELAB_AI_URL"
            ) from error
        try:
            answer: dict[str, Any] = response.json() if response.content else {}
            if response.is_success:
                return answer
            message, code = f"{answer['error']['message']}", f"{answer['error']['code']}"
        except (ValueError, KeyError, TypeError) as error:
            raise self._another(method, path, str(response.status_code)) from error
        if response.status_code == http.HTTPStatus.UNAUTHORIZED:
            message += f". Set {KEY_VARIABLE} to a key of this service"
        pause = response.headers.get("Retry-After", "")
        raise ServiceUnavailableError(message, response.status_code, code, int(pause) if pause.isdigit() else None)

    def _another(self, method: str, path: str, answered: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"What answers at {self._url} is another service: {method} {path} was answered {answered}"
        )
