"""The running service, as it answers; and its port, where it does not run."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Protocol

from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.cli.listening import objection
from homelab_ai.settings.tree import ServerSettings


class Service(Protocol):
    """The running service."""

    def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a GET. Raises `ServiceUnavailableError`."""
        ...


def ask(service: Service) -> tuple[bool, dict[str, Any], list[Finding]]:
    """Return whether a service runs, what it says of its status (nothing, without a key), and what is to be said."""
    try:
        service.get("/ready")
    except ServiceUnavailableError as error:
        if error.status is None:
            return False, {}, [Finding("service", "warning", str(error), "homelab-ai serve")]
        return True, {}, [Finding("service", "problem", f"it is not ready: {error}", "what it has logged says more")]
    try:
        status = service.get("/api/status")
    except ServiceUnavailableError as error:
        mend = "export HOMELAB_AI_API_KEY=..., a key with the scope read"
        return True, {}, [Finding("service", "warning", f"it runs, but does not tell its status: {error}", mend)]
    try:
        return True, status, [*of_status(status)]
    except (KeyError, TypeError):
        return False, {}, [Finding("service", "warning", "what answers is another service", "--url, or HOMELAB_AI_URL")]


def of_status(status: dict[str, Any]) -> Iterator[Finding]:
    """What the service says of itself that is to be mended."""
    release, configuration = status["version"], status["configuration"]
    if release != version("homelab-ai-api"):
        saw = f"{release} runs, but {version('homelab-ai-api')} is installed here"
        yield Finding("service", "warning", saw, "restart the service")
    else:
        yield Finding("service", "ok", f"{release} runs and is ready")
    if not configuration["current"]:
        saw = "its configuration file cannot be used as it is now; the last settings stay in force"
        yield Finding("service", "problem", saw, "homelab-ai doctor --config FILE says what is wrong with it")
    if names := configuration["needing_restart"]:
        saw = f"what was changed takes effect with the next start: {', '.join(names)}"
        yield Finding("service", "warning", saw, "restart the service")


def of_port(server: ServerSettings) -> Iterator[Finding]:
    """Whether a service that does not run could listen where it is to."""
    place = f"{server.host}:{server.port}"
    if refused := objection(server.host, server.port):
        saw, mend = refused
        yield Finding("port", "problem", f"{place} cannot be listened on: {saw}", mend)
    else:
        yield Finding("port", "ok", f"{place} is free")
