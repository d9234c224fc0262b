"""docs/troubleshooting.md: every subject that the doctor has something to say of."""

import re

from homelab_ai.cli.doctor import forbidden
from support.server import REPOSITORY

TROUBLESHOOTING = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
DOCTOR = REPOSITORY / "src" / "homelab_ai" / "cli" / "doctor"


def test_every_subject_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TROUBLESHOOTING, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    code = "".join(path.read_text() for path in DOCTOR.glob("*.py") if path.stem != "egress")
    subjects = {*re.findall(r"Finding\(\s*\"(\w+)\"", code), *re.findall(r"^_SUBJECT = \"(\w+)\"", code, re.MULTILINE)}
    assert documented == subjects


def test_the_doctor_of_egress_has_its_place() -> None:
    assert "crawling.md#what-is-fetched-and-what-is-not" in TROUBLESHOOTING
    crawling = (REPOSITORY / "docs" / "crawling.md").read_text()
    assert "## What is fetched, and what is not\n" in crawling
    assert "homelab-ai doctor --egress" in crawling
    around = forbidden.Surroundings(service=(), own=(), own_of_the_service=False, gateways=(), ports={}, online=False)
    assert len([*forbidden.everything(around)]) > 90, "some hundred pages"
