"""`homelab-ai doctor`: processor, GPU, clock, memory, folders and the hub, as they are on other machines."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.cli.doctor import hub, machine, resources
from homelab_ai.cli.doctor.findings import Finding, Level
from homelab_ai.models.device import Gpu, Processor
from homelab_ai.models.memory import BYTES_PER_GB as GB
from homelab_ai.settings import ResourcesSettings, Settings
from support.answering import Handler, answering

CARD = Gpu("GeForce", 12 * GB, 2 * GB)


def fails() -> list[Gpu]:
    raise RuntimeError("the driver and the library do not go together")


@pytest.mark.parametrize(
    ("features", "architecture", "level"),
    [
        (("avx2", "avx512f"), "x86_64", "ok"),
        ((), "x86_64", "warning"),
        ((), "aarch64", "ok"),
    ],
)
def test_a_processor_without_its_instructions_is_told(
    features: tuple[str, ...], architecture: str, level: Level
) -> None:
    (finding,) = machine.of_processor(Processor("QEMU Virtual CPU", 2, features), architecture)
    assert finding.level == level
    assert finding.saw.startswith("QEMU Virtual CPU, 2 of ")
    assert ("Proxmox" in finding.mend) == (level == "warning")


@pytest.mark.parametrize(
    ("settings", "around", "expected"),
    [
        ({}, {"likely": lambda: False}, [("ok", "none: models run on the processor")]),
        ({"device": "cuda:0"}, {"likely": lambda: False}, [("problem", "resources.device is cuda:0, but there is no")]),
        ({}, {}, [("ok", "GeForce, 10.0 of 12.0 GB free")]),
        ({"device": "cpu"}, {}, [("ok", "there is one, and resources.device is cpu")]),
        ({"max_gpu_memory_gb": 20}, {}, [("warning", "less than resources.max_gpu_memory_gb (20)")]),
        ({}, {"torch": lambda: "2.13.0+cpu"}, [("warning", "torch 2.13.0+cpu cannot use it"), ("ok", "GeForce")]),
        ({}, {"read": fails}, [("problem", "its driver does not answer: the driver and the library")]),
        ({}, {"read": list}, [("warning", "nothing to ask it by")]),
    ],
)
def test_a_gpu_is_there_and_can_be_used(
    settings: dict[str, Any], around: dict[str, Any], expected: list[tuple[Level, str]]
) -> None:
    usual = {"likely": lambda: True, "read": lambda: [CARD], "torch": lambda: "2.13.0+cu130"}
    found = [*machine.of_gpu(ResourcesSettings.model_validate(settings), **{**usual, **around})]
    assert [finding.level for finding in found] == [level for level, _ in expected]
    for finding, (level, saw) in zip(found, expected, strict=True):
        assert saw in finding.saw
        assert bool(finding.mend) == (level != "ok")


def test_a_clock_that_is_wrong_or_left_alone_is_told(tmp_path: Path) -> None:
    def level(now: float, *, kept: bool | None) -> Level:
        (finding,) = machine.of_clock(lambda: now, lambda: kept, tmp_path)
        return finding.level

    now = time.time()
    assert [level(now + 1, kept=kept) for kept in (True, None, False)] == ["ok", "ok", "warning"]
    assert level(0, kept=True) == "problem"


def test_the_kernel_tells_of_its_clock() -> None:
    assert machine.is_kept() in {True, False}


@pytest.mark.parametrize(
    ("most", "allowed", "level", "saw"),
    [
        (4, 8, "ok", "8.0 GB; models may take 4.0 GB"),
        (2, 4, "ok", "4.0 GB of the machine's 8.0 (the limit of a container"),
        (0.2, 0.5, "warning", "the smallest models only"),
        (6, 4, "problem", "resources.max_memory_gb lets models take 6.0 GB"),
    ],
)
def test_memory_is_enough(most: float, allowed: float, level: Level, saw: str) -> None:
    settings = ResourcesSettings.model_validate({"max_memory_gb": most})
    (finding,) = resources.of_memory(settings, allowed=lambda: int(allowed * GB), physical=lambda: 8 * GB)
    assert finding.level == level
    assert saw in finding.saw


def test_memory_is_that_of_this_machine() -> None:
    (finding,) = resources.of_memory(ResourcesSettings())
    assert finding.level in {"ok", "warning"}


def folders(folder: Path) -> list[Finding]:
    settings = Settings.model_validate({"data_dir": folder / "data", "models_dir": folder / "models"})
    return [*resources.of_folders(settings)]


def test_folders_that_can_be_used_or_made_are_well(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = folders(tmp_path)
    assert [finding.level for finding in found] == ["ok", "ok", "ok"]
    assert found[0].saw.startswith(f"data_dir, {tmp_path}/data: ")
    assert not (tmp_path / "models").exists(), "nothing is made"


def test_a_folder_that_is_somebody_elses_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "state.db").write_text("")
    for theirs in (tmp_path / "data", tmp_path / "data" / "state.db"):
        # Root may write anywhere, so that the system cannot be asked here.
        monkeypatch.setattr(os, "access", lambda path, mode, theirs=theirs: path != theirs)
        finding = folders(tmp_path)[0]
        assert finding.level == "problem"
        assert f"may not write to {theirs}" in finding.saw
        assert finding.mend == f"sudo chown -R {os.geteuid()} {theirs}"
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert folders(tmp_path)[1].mend == f"sudo install -d -o {os.geteuid()} {tmp_path / 'models'}"


def test_a_file_in_the_place_of_a_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    (tmp_path / "data").write_text("")
    assert [finding.level for finding in folders(tmp_path)] == ["problem", "problem", "ok"]


def test_a_full_disk_and_a_foreign_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "filesystem", lambda folder: "nfs4")
    assert [finding.level for finding in folders(tmp_path)] == ["warning", "ok", "ok"]
    monkeypatch.setattr(resources, "_LEAST_FREE", dict.fromkeys(resources._LEAST_FREE, 10.0**9))
    assert [finding.level for finding in folders(tmp_path)] == ["warning"] * 3


def test_what_is_mounted_is_known() -> None:
    assert resources.filesystem(Path("/proc/self")) == "proc"
    assert resources.filesystem(Path("/")) not in {"", "proc"}


class Hub(Handler):
    astray = 0.0

    def do_HEAD(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", self.date_time_string(time.time() - self.astray))
        self.end_headers()


@pytest.fixture
def endpoint() -> Iterator[dict[str, str]]:
    with answering(Hub) as url:
        yield {"HF_ENDPOINT": url}


def test_a_hub_that_answers_tells_the_time_too(endpoint: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in hub.of_hub(endpoint)] == ["ok"]
    monkeypatch.setattr(Hub, "astray", 3600.0)
    answers, clock = hub.of_hub(endpoint)
    assert (answers.level, clock.subject, clock.level) == ("ok", "clock", "problem")
    assert clock.saw.startswith("it is 60 minutes ahead of that of http://127.0.0.1")


def test_a_hub_that_does_not_answer_is_told() -> None:
    offline, silent = hub.of_hub({"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "1"})
    assert offline.saw == "HF_HUB_OFFLINE is set: no model is downloaded"
    assert silent.level == "warning"
    assert silent.mend.startswith("curl -I http://127.0.0.1:1;")
