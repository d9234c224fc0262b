"""Every variable of the environment that the code reads, or speaks of, is documented, and no other of ours."""

import re

from homelab_ai.settings import load_settings
from homelab_ai.settings.loading import _SETTABLE
from support.documents import documents
from support.server import REPOSITORY

CODE = "".join(path.read_text() for path in (REPOSITORY / "src" / "homelab_ai").rglob("*.py"))
WRITTEN = "".join(each.text for each in documents())
NAME = r"(?:HOMELAB_AI|HF|CUDA|OTEL|OMP|PLAYWRIGHT|XDG|SSH|HTTPS?)_[A-Z_]*[A-Z]"

ITS_OWN = {"HOME", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET", "XDG_CONFIG_HOME"}
"""What every program reads, and what the service sets for its own children."""


def test_every_variable_is_documented() -> None:
    read = set(re.findall(r"environ(?:\.get\(|\[)\s*\"([A-Z_]+)\"|envvar=\"([A-Z_]+)\"", CODE))
    spoken_of = set(re.findall(rf"\b{NAME}\b", CODE))
    names = {name for pair in read for name in pair if name} | spoken_of
    names = {name for name in names if not name.startswith("HOMELAB_AI__")}  # settings, which have a page of their own
    assert {"HOMELAB_AI_URL", "HOMELAB_AI_CONFIG", "HOMELAB_AI_API_KEY", "HF_TOKEN", "HF_ENDPOINT"} <= names
    assert names - ITS_OWN - OF_LIBRARIES - set(re.findall(r"\b[A-Z_]+\b", WRITTEN)) == set()


OF_LIBRARIES = {"HF_HUB_DOWNLOAD_TIMEOUT"}
"""A constant of theirs, which is no variable here."""


def test_every_setting_that_is_given_by_a_variable_exists() -> None:
    named = set(re.findall(r"\bHOMELAB_AI__([A-Z_]*[A-Z])\b", WRITTEN))
    assert named
    assert {name.removesuffix("_FILE") for name in named} <= _SETTABLE.keys()
    for name, value in set(re.findall(r"\b(HOMELAB_AI__[A-Z_]*[A-Z])=([\w.:/]+)", WRITTEN)):
        if not name.endswith("_FILE"):  # which names a file that only a reader has
            load_settings(None, {name: value})


def test_no_variable_is_documented_that_nobody_reads() -> None:
    named = set(re.findall(r"\bHOMELAB_AI_[A-Z]+(?:_[A-Z]+)*\b", WRITTEN))
    assert named <= set(re.findall(r"\bHOMELAB_AI_[A-Z_]*[A-Z]\b", CODE))
