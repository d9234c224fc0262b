"""`homelab-ai doctor` against a real service, in a network that has nothing but loopback: nothing can leave it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.server import REPOSITORY

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
