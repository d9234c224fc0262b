"""`homelab-ai doctor`: what the running service says of itself, and its port where it does not run."""

import socket
from importlib.metadata import version
from typing import Any

import pytest

from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.doctor import service
from homelab_ai.settings.tree import ServerSettings
from support.server import free_port

WELL: dict[str, Any] = {
    "version": version("homelab-ai-api"),
    "configuration": {"current": True, "needing_restart": []},
    "browser": {"sandboxed": True},
}


class Answers:
    """A service that answers, or fails, so."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def get(self, path: str) -> dict[str, Any]:
        answer = self._answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def test_a_service_that_is_well_is_so() -> None:
    runs, status, (finding,) = service.ask(Answers({"/ready": {}, "/api/status": WELL}))
    assert (runs, status, finding.level) == (True, WELL, "ok")


@pytest.mark.parametrize(
    ("answers", "runs", "level", "saw"),
    [
        ({"/ready": ServiceUnavailableError("No service answers")}, False, "warning", "No service answers"),
        ({"/ready": ServiceUnavailableError("state.db", 503)}, True, "problem", "it is not ready: state.db"),
        (
            {"/ready": {}, "/api/status": ServiceUnavailableError("Set HOMELAB_AI_API_KEY", 401)},
            True,
            "warning",
            "it runs, but does not tell its status: Set HOMELAB_AI_API_KEY",
        ),
        ({"/ready": {}, "/api/status": {"of": "another"}}, False, "warning", "what answers is another service"),
        ({"/ready": {}, "/api/status": {**WELL, "version": "0.0.1"}}, True, "warning", "0.0.1 runs, but "),
    ],
)
def test_one_that_is_not_well_or_not_there_is_told(answers: dict[str, Any], runs: bool, level: str, saw: str) -> None:  # noqa: FBT001
    found, _, (finding,) = service.ask(Answers(answers))
    assert (found, finding.level) == (runs, level)
    assert finding.saw.startswith(saw)
    assert finding.mend


def test_a_configuration_that_is_not_in_force_is_told() -> None:
    configuration = {"current": False, "needing_restart": ["server.port"]}
    well, broken, waiting = service.of_status({**WELL, "configuration": configuration})
    assert (well.level, broken.level, waiting.level) == ("ok", "problem", "warning")
    assert "server.port" in waiting.saw


def test_a_port_that_is_free_or_taken_is_told() -> None:
    def told(host: str, port: int) -> tuple[str, str]:
        (finding,) = service.of_port(ServerSettings(host=host, port=port))
        return finding.level, finding.saw.partition(": ")[2]

    assert told("127.0.0.1", free_port())[0] == "ok"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert told("127.0.0.1", taken.getsockname()[1]) == ("problem", "another program has it")
    assert told("192.0.2.1", free_port()) == ("problem", "it is no address of this machine")
