"""How much memory there is and what takes it: the kernel's own files, as they are on real machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_ai.models import memory
from homelab_ai.models.files import places
from homelab_ai.models.memory import BYTES_PER_GB, Footprint
from homelab_ai.settings import Settings
from support.server import wait_for

MB = 1024**2
GREEDY = "data = bytearray(64 * 2**20); import sys; print('ready', flush=True); sys.stdin.read()"


def test_private_memory_is_that_of_the_whole_group_of_processes() -> None:
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {GREEDY!r}]); {GREEDY}"
    process = subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        taken = memory.private_bytes(process.pid)
        assert taken
        assert 128 * MB < taken < 200 * MB
    finally:
        os.killpg(process.pid, 9)
        process.communicate()
    wait_for(lambda: memory.private_bytes(process.pid) is None)  # the grandchild may take a moment to go


def test_a_program_with_a_strange_name_is_counted_too(tmp_path: Path) -> None:
    for pid, name, group in ((1, "init", 1), (70, "a) R 1 9 (b", 9), (71, "x y", 9), (72, "gone", 9)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S 1 {group} 9 0 -1")
    for pid in (1, 70, 71):  # of 72, nothing is left
        rollup = "Rss: 999 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\nPrivate_Hugetlb: 4 kB\nSwapPss: 8 kB\n"
        (tmp_path / str(pid) / "smaps_rollup").write_text(rollup)
    assert memory.private_bytes(9, tmp_path) == 2 * 15 * 1024
    assert memory.private_bytes(8, tmp_path) is None
    assert memory.private_bytes(9, tmp_path / "nothing") is None


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "1073741824\n"}, BYTES_PER_GB),  # in a container
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/a.slice/b.service\n", {"a.slice/memory.max": f"{2 * BYTES_PER_GB}\n"}, 2 * BYTES_PER_GB),
        (
            "0::/a.slice/b.service\n",
            {"a.slice/memory.max": f"{2 * BYTES_PER_GB}\n", "a.slice/b.service/memory.max": f"{BYTES_PER_GB}\n"},
            BYTES_PER_GB,
        ),
        ("5:cpu:/x\n4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "536870912\n"}, 536870912),
        ("4:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "536870912\n"}, 536870912),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("", {}, None),
    ],
)
def test_a_container_has_as_much_memory_as_it_may_take(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int | None
) -> None:
    put(tmp_path / "proc/self/cgroup", groups)
    for path, text in limits.items():
        put(tmp_path / "sys/fs/cgroup" / path, text)
    physical = memory.machine_memory(tmp_path / "nothing")
    assert memory.machine_memory(tmp_path) == (expected or physical)


def test_the_budget_is_what_the_settings_say() -> None:
    settings = Settings.model_validate({"resources": {"max_memory_gb": 1.5, "max_gpu_memory_gb": 3}})
    assert memory.budget(settings.resources) == Footprint(int(1.5 * BYTES_PER_GB), 3 * BYTES_PER_GB)
    automatic = memory.budget(Settings().resources)
    assert automatic == Footprint(int(0.6 * memory.machine_memory()), 8 * BYTES_PER_GB)


def test_what_is_not_needed_is_not_missed() -> None:
    assert Footprint(5, 0).fits(Footprint(5, -3))
    assert not Footprint(5, 1).fits(Footprint(5, -3))
    assert Footprint(5, 1).missing(Footprint(2, -3)) == Footprint(3, 4)
    assert not Footprint(0, 4).overlaps(Footprint(3, 0))


def test_an_estimate_grows_with_the_weights_and_a_gpu_takes_them() -> None:
    small, large = (memory.estimate(size, on_gpu=False) for size in (100 * MB, 10_000 * MB))
    assert large.memory_bytes - small.memory_bytes > 9_900 * MB
    assert (small.gpu_memory_bytes, large.gpu_memory_bytes) == (0, 0)
    assert memory.estimate(10_000 * MB, on_gpu=True).gpu_memory_bytes > 10_000 * MB
    assert memory.estimate(None, on_gpu=False).memory_bytes > small.memory_bytes


@pytest.mark.parametrize("found", ["/dev/nvidiactl", "/dev/dxg", "/dev/kfd", None])
def test_a_gpu_is_expected_where_its_device_is(found: str | None) -> None:
    assert memory.gpu_is_likely(lambda path: path == found, {}) is (found is not None)


@pytest.mark.parametrize(("visible", "likely"), [("", False), ("-1", False), ("0", True), ("1,2", True)])
def test_a_gpu_that_is_hidden_is_not_expected(visible: str, *, likely: bool) -> None:
    assert memory.gpu_is_likely(lambda _: True, {"CUDA_VISIBLE_DEVICES": visible}) is likely


def test_the_size_of_the_weights_is_found_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "models"
    assert places.weights_bytes("org/name", models) is None
    put(models / "models--org--name/snapshots/abc/sub/model.safetensors", "12345")
    put(models / "models--org--name/snapshots/def/pytorch_model.bin", "123")
    assert places.weights_bytes("org/name", models) == 5
    put(models / "org/name/config.json", "{}")
    put(models / "org/name/a.safetensors", "1234")
    put(models / "org/name/b.safetensors", "1234")
    assert places.weights_bytes("org/name", models) == 8
    assert places.weights_bytes(str(models / "org/name"), models) == 8
    assert places.weights_bytes(str(models / "nothing"), models) is None
    assert (places.weights_bytes("sentence-transformers/all-MiniLM-L6-v2", models) or 0) > 80 * MB
