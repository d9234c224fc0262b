"""`homelab-ai doctor` against a real service, in a network that has nothing but loopback: nothing can leave it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.server import REPOSITORY, Server, free_port

pytestmark = pytest.mark.timeout(180)

ALONE = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
EXAMINED = """
import subprocess, sys
from pathlib import Path
from support.server import Server

subprocess.run("ip link set lo up && ip address add 10.77.0.5/24 dev lo", shell=True, check=True)
with Server(Path.cwd(), config=Path("config.yaml").read_text()) as server:
    command = [sys.executable, "-m", "homelab_ai", "doctor", "--egress", "--json", "--url", server.url]
    done = subprocess.run(command, capture_output=True, text=True)
sys.stderr.write(done.stderr)
sys.stdout.write(done.stdout)
sys.exit(done.returncode)
"""
NO_GUARD = """
import homelab_ai.crawling.egress.policy as policy
policy.Policy.objection = lambda *_, **__: None
"""


def examined(folder: Path, config: str, status: int) -> dict[str, Any]:
    """What the doctor says, in the end with this exit status, of a service with this configuration."""
    if not all(map(shutil.which, ("unshare", "ip"))) or subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("a network of its own cannot be made here")
    (folder / "config.yaml").write_text(config)
    # First the folder, whose sitecustomize (if there is one) every Python reads.
    path = os.pathsep.join(map(str, (folder, REPOSITORY / "src", REPOSITORY / "tests")))
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", EXAMINED],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr + done.stdout
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_the_service_reaches_nothing_at_home(tmp_path: Path) -> None:
    said = examined(tmp_path, "", 0)
    assert {attempt["outcome"] for attempt in said["attempts"]} == {"refused"}
    assert {attempt["wait_for_js"] for attempt in said["attempts"]} == {True, False}
    assert len(said["attempts"]) > 150
    (watched,) = (finding["saw"] for finding in said["findings"] if finding["subject"] == "listeners")
    assert "127.0.0.1:8080, [::1]:8080, 10.77.0.5:8080" in watched


def test_a_service_without_its_guard_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_GUARD)
    said = examined(tmp_path, "crawl: {allow_hosts: [10.77.0.5]}", 1)
    found = {(attempt["url"], attempt["wait_for_js"]): attempt for attempt in said["attempts"]}
    for browser in (False, True):
        home = found["http://127.0.0.1:8080/", browser]
        assert (home["outcome"], home["came_to"]) == ("let through", ["127.0.0.1"])
        opened = found["http://10.77.0.5:8080/", browser]
        assert (opened["outcome"], opened["opened_by"]) == ("opened", "crawl.allow_hosts: 10.77.0.5")
        assert found["http://192.168.1.1/", browser]["outcome"] == "let through"
        assert found["http://169.254.169.254/latest/meta-data/", browser]["outcome"] == "let through"
        assert found["file:///etc/passwd", browser]["outcome"] == "refused"


def doctor(folder: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HOMELAB_AI", "SSH_"))}
    return subprocess.run(
        [sys.executable, "-m", "homelab_ai", "doctor", "--url", url, *arguments],
        cwd=folder,
        env=environment | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_service_is_looked_at_with_its_machine(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with server.client() as client:
            page = client.post("/api/crawl", json={"url": "http://127.0.0.1:8081/", "wait_for_js": True})
            assert page.json()["error"]["code"] == "CRAWL_BLOCKED"
            sandboxed = client.get("/api/status").json()["browser"]["sandboxed"]
        done = doctor(tmp_path, server.url, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "runs and is ready" in found["service"]["saw"]
    assert found["browser"]["level"] == "ok"
    assert (found["sandbox"]["level"] == "ok") is sandboxed, "as the status says"
    assert {"processor", "gpu", "clock", "memory", "disk", "access", "configuration"} <= found.keys()
    assert "port" not in found, "it is the service's"
    assert "hub" not in found, "nothing leaves this machine unasked"
    assert all(bool(finding["mend"]) == (finding["level"] != "ok") for finding in found.values())


def test_without_a_service_and_with_a_wrong_configuration_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {prot: 1}")
    done = doctor(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "problem  configuration  config.yaml:1: server.prot: unknown setting; did you mean port?" in done.stdout
    assert "warning  service        No service answers at http://127.0.0.1:" in done.stdout
    assert "> homelab-ai serve" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"], "nothing was made"


def test_a_command_line_that_is_wrong_is_told(tmp_path: Path) -> None:
    assert doctor(tmp_path, "http://127.0.0.1", "--nonsense").returncode == 2
