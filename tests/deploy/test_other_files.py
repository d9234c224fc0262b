"""The unit for systemd, the template for Unraid, and the widget for Homepage."""

import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import yaml

from homelab_ai.settings import load_settings
from support.server import REPOSITORY
from support.tools import needed, passes

DEPLOY = REPOSITORY / "deploy"
UNIT = DEPLOY / "systemd" / "homelab-ai.service"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program == "/opt/homelab-ai/.venv/bin/homelab-ai"
    installed = tmp_path / UNIT.name
    installed.write_text(text.replace(program, needed("true")))  # it must exist
    passes("systemd-analyze", "verify", installed)


def test_the_unit_gives_requests_time_and_the_sandbox_room() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert int(settings["TimeoutStopSec"]) > load_settings(None, {}).resources.request_timeout_seconds
    assert settings["WorkingDirectory"] == f"/var/lib/{settings['StateDirectory']}"
    assert shlex.split(settings["ExecStart"])[1:] == ["serve", "--host", "0.0.0.0", "--port", "8000"]
    assert not settings.keys() & {"RestrictNamespaces", "SystemCallFilter"}


def test_the_template_of_unraid_names_what_the_image_has() -> None:
    template = ET.parse(DEPLOY / "unraid" / "homelab-ai-api.xml").getroot()
    assert template.tag == "Container"
    entries = [entry.attrib for entry in template.iter("Config")]
    targets = {
        kind: {each["Target"] for each in entries if each["Type"] == kind} for kind in ("Port", "Path", "Variable")
    }
    assert targets["Port"] == {"8000"}
    assert targets["Path"] == {"/app/config.yaml", "/app/data", "/app/models"}
    assert targets["Variable"] == {"PUID", "PGID", "UMASK"}
    assert all(entry.text == entry.attrib["Default"] for entry in template.iter("Config"))
    assert template.findtext("Privileged") == "false"


def test_the_widget_is_the_one_that_the_documentation_shows() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "monitoring.md").read_text(), re.DOTALL)
    there = yaml.safe_load((DEPLOY / "homepage" / "services.yaml").read_text())
    assert there in [yaml.safe_load(block) for block in shown]
