"""The running service, as commands see it."""

import http
import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
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
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        retry_after_seconds: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """`status` is that of the answer, where there was one; `code`, the time to wait, `details` are what it said."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}


class Client:
    """One connection to the service, used from one thread.

    Its key is taken from the environment: what stands on a command line is seen by everybody on the machine.
    """

    def __init__(self, url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        """Connect when there is something to ask. Raises `ServiceUnavailableError` for an address that is none."""
        self._url = url
        key = own_key()
        if not key.isascii() or any(character.isspace() for character in key):
            raise ServiceUnavailableError(f"What {KEY_VARIABLE} holds is no key: a key has no such characters")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx2.Client(base_url=url, headers=headers, timeout=timeout_seconds)
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

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a PATCH. Raises `ServiceUnavailableError`."""
        return self._ask("PATCH", path, body)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the data of each server-sent event that a GET is answered with, until the service ends them, or goes.

        Raises `ServiceUnavailableError` before the first.
        """
        begun = False
        try:
            with self._client.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal("GET", path, response)
                begun = True
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except httpx2.HTTPError as error:
            if not begun:
                raise self._silence(error) from error
        except ValueError as error:
            raise self._another("GET", path, "with something else") from error

    def send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """Return the answer to a request with what httpx2 takes: `json`, `files`, `headers` and so on.

        Raises `ServiceUnavailableError`.
        """
        try:
            response = self._client.request(method, path, **content)
        except httpx2.HTTPError as error:
            raise self._silence(error) from error
        if not response.is_success:
            raise self._refusal(method, path, response)
        return response

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self.send(method, path, json=body)
        try:
            answer: dict[str, Any] = response.json() if response.content else {}
        except ValueError as error:
            raise self._another(method, path, str(response.status_code)) from error
        return answer

    def _silence(self, error: httpx2.HTTPError) -> ServiceUnavailableError:
        reason = str(error) or type(error).__name__
        return ServiceUnavailableError(
            f"No service answers at {self._url} ({reason}); start one with `homelab-ai serve`, or say where it is "
            "with --url or HOMELAB_AI_URL"
        )

    def _refusal(self, method: str, path: str, response: httpx2.Response) -> ServiceUnavailableError:
        try:
            error = response.json()["error"]
            message, code, details = f"{error['message']}", f"{error['code']}", {**error["details"]}
        except (ValueError, KeyError, TypeError):
            return self._another(method, path, str(response.status_code))
        if response.status_code == http.HTTPStatus.UNAUTHORIZED:
            message += f". Set {KEY_VARIABLE} to a key of this service"
        if response.status_code == http.HTTPStatus.NOT_FOUND:
            message += _meant(message, details)
        pause = response.headers.get("Retry-After", "")
        seconds = int(pause) if pause.isdigit() else None
        return ServiceUnavailableError(message, response.status_code, code, seconds, details)

    def _another(self, method: str, path: str, answered: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"What answers at {self._url} is another service: {method} {path} was answered {answered}"
        )


def _meant(message: str, details: dict[str, Any]) -> str:
    """Say which model was probably meant, or else which there are."""
    match details:
        case {"model_id": str(name), "available_models": [_, *_] as available}:
            names = {str(each).lower(): str(each) for each in available}
            if close := get_close_matches(name.lower(), names, n=1):
                meant = names[close[0]]
                return "" if repr(meant) in message else f"; did you mean {meant}?"
            return f"; there are {', '.join(names.values())}"
    return ""
