"""Downloads by real child processes, from a small hub on loopback. Nothing here may ask anybody else."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from homelab_ai.models.files import places
from homelab_ai.models.hosts.host import Host, HostDied, HostLoadFailed, HostPlan
from support import disk
from support.hub import MB, Fault, Hub, environment, etag, sha256
from support.server import free_port

pytestmark = pytest.mark.anyio

NAME = "org/name"
WEIGHTS = os.urandom(4 * MB + 17)
CONFIG = b'{"model_type": "bert"}'
MODEL = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "1_Pooling/config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
        yield hub


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def plan(models: Path, *, name: str = NAME, revision: str | None = None, reserved_bytes: int = 0) -> HostPlan:
    options = {"hf_model": name, "revision": revision, "models_dir": str(models), "reserved_bytes": reserved_bytes}
    return HostPlan("model", "homelab_ai.models.files.hub", options, 60)


async def download(models: Path, told: list[Mapping[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    host = await Host.start(plan(models, **options), None if told is None else told.append)
    await host.stop()
    return host.described


async def refusal(models: Path, **options: Any) -> str:
    """What is said of a download that fails."""
    with pytest.raises(HostLoadFailed) as raised:
        await download(models, **options)
    said = str(raised.value)
    known = (str(models.parent), str(Path.home()), sys.prefix, os.getcwd(), "127.0.0.1", "hf_of_the_test")
    assert [text for text in known if text in said and text != "/"] == []
    assert not re.search(r"(?<![\w:])/\w", said), f"a path in: {said}"
    return said


def located(models: Path, revision: str | None = None) -> Path | None:
    return places.locate(NAME, revision=revision, models_dir=models)


def content(folder: Path | None) -> dict[str, bytes]:
    assert folder
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def part(models: Path, of: bytes = WEIGHTS) -> Path:
    return places.repository(NAME, models) / "blobs" / f"{etag(of)}.part"


def begun(models: Path, what: bytes) -> Path:
    """Leave what an earlier try may have left."""
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(what)
    return part(models)


async def holds(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():
            await asyncio.sleep(0.005)


# --- what comes


async def test_a_download_is_found_whole(hub: Hub, models: Path) -> None:
    commit = hub.push(NAME, {**MODEL, "README.md": b"...", "pytorch_model.bin": b"x", "onnx/model.json": b"{}"})
    assert located(models) is None
    told: list[Mapping[str, Any]] = []

    described = await download(models, told)

    total = sum(map(len, MODEL.values()))
    assert described == {"commit": commit, "bytes": total}
    assert content(located(models)) == MODEL
    assert located(models, commit) == located(models)
    assert told[-1] == {"bytes": total, "total_bytes": total}
    assert not list(models.rglob("*.part"))
    assert not list(models.rglob("incomplete/*"))
    assert hub.transfers() == [None]
    assert hub.asked("/resolve/")[0].headers["authorization"] == "Bearer hf_of_the_test"
    assert "authorization" not in hub.asked("/cdn/")[0].headers


async def test_what_is_there_is_not_downloaded_again(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    first = await download(models)
    before = len(hub.asked("/resolve/"))

    assert await download(models) == first

    assert len(hub.asked("/resolve/")) == before


async def test_progress_is_told_while_it_is_made(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.always = Fault(pause_after=3 * MB)
    told: list[Mapping[str, Any]] = []
    start = asyncio.create_task(download(models, told))
    await holds(lambda: told and told[-1]["bytes"] >= 2 * MB)
    assert not start.done()
    assert located(models) is None
    hub.resume.set()
    described = await start

    assert {progress["total_bytes"] for progress in told} == {described["bytes"]}
    assert told[-1]["bytes"] == described["bytes"]


@pytest.mark.parametrize("names", [["pytorch_model.bin"], ["0_Transformer/pytorch_model.bin", "training_args.bin"]])
async def test_old_weights_come_only_where_there_are_no_safe_ones(hub: Hub, models: Path, names: list[str]) -> None:
    hub.push(NAME, {"config.json": CONFIG, **{name: name.encode() for name in names}})

    await download(models)

    assert content(located(models)).keys() == {"config.json", names[0]}


async def test_names_with_special_characters(hub: Hub, models: Path) -> None:
    odd = {"config.json": CONFIG, "model[1] é?*.safetensors": WEIGHTS, "a b/%41#x.json": b"1"}
    hub.push(NAME, odd)

    await download(models)

    assert content(located(models)) == odd


async def test_a_pinned_revision_stays_when_the_branch_moves(hub: Hub, models: Path) -> None:
    old = hub.push(NAME, MODEL)
    hub.push(NAME, MODEL, branch="refs/pr/1")
    await download(models)
    await download(models, revision="refs/pr/1")
    new = hub.push(NAME, MODEL | {"config.json": b'{"new": 1}'})
    assert (await download(models, revision=old))["commit"] == old
    assert located(models) == located(models, "refs/pr/1") == located(models, old)

    assert (await download(models))["commit"] == new

    assert content(located(models))["config.json"] == b'{"new": 1}'
    assert {path.name for path in (places.repository(NAME, models) / "refs").iterdir()} == {"main", "refs"}
    assert content(located(models, "refs/pr/1")) == content(located(models, old)) == MODEL
    assert hub.transfers() == [None], "what both have in common was asked for twice"


async def test_a_branch_that_has_moved_is_the_old_one_until_the_new_is_there(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    await download(models)
    hub.push(NAME, MODEL | {"model.safetensors": WEIGHTS[::-1]})
    hub.always = Fault(corrupt=True)

    await refusal(models)

    assert content(located(models)) == MODEL


# --- what breaks off


async def test_a_connection_that_breaks_off_once_is_taken_up_again(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.faults += [Fault(cut_after=2 * MB + 5)]

    await download(models)

    assert content(located(models)) == MODEL
    assert hub.transfers() == [None, f"bytes={2 * MB}-"]


async def test_a_connection_that_is_reset_again_and_again(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.always = Fault(reset_after=0)
    kept = begun(models, WEIGHTS[: MB + 1])

    said = await refusal(models)

    assert said == (
        "the connection to the hub broke off; what has come of org/name is kept, and the next try goes on from there"
    )
    assert kept.read_bytes() == WEIGHTS[: MB + 1]
    assert located(models) is None
    hub.always = Fault()
    await download(models)
    assert content(located(models)) == MODEL
    assert set(hub.transfers()) == {f"bytes={MB + 1}-"}


async def test_a_reset_is_taken_up_again_as_long_as_something_comes(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.faults += [Fault(pause_after=2 * MB, reset_after=0)]
    start = asyncio.create_task(download(models))
    await holds(lambda: part(models).exists() and part(models).stat().st_size == 2 * MB)
    hub.resume.set()
    await start

    assert content(located(models)) == MODEL
    assert hub.transfers() == [None, f"bytes={2 * MB}-"]


async def test_a_connection_on_which_nothing_comes_any_more_is_given_up(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push(NAME, MODEL)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.faults += [Fault(pause_after=2 * MB)]

    await download(models)

    assert content(located(models)) == MODEL
    assert hub.transfers() == [None, f"bytes={2 * MB}-"]


async def test_a_killed_download_goes_on_where_it_was(hub: Hub, models: Path) -> None:
    marker = places.marker(places.repository(NAME, models), hub.push(NAME, MODEL))
    hub.faults += [Fault(pause_after=3 * MB)]
    start = asyncio.create_task(Host.start(plan(models)))
    await holds(lambda: part(models).exists() and part(models).stat().st_size >= 2 * MB)
    psutil.Process().children()[0].kill()
    with pytest.raises(HostDied):
        await start
    came = part(models).stat().st_size
    assert marker.exists()
    told: list[Mapping[str, Any]] = []

    await download(models, told)

    assert content(located(models)) == MODEL
    assert not marker.exists()
    assert hub.transfers() == [None, f"bytes={came}-"]
    assert min(progress["bytes"] for progress in told) >= came


async def test_two_downloads_of_one_model_are_one(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.always = Fault(pause_after=3 * MB)
    told: list[Mapping[str, Any]] = []
    first = asyncio.create_task(download(models))
    await holds(hub.paused.is_set)
    second = asyncio.create_task(download(models, told))
    await holds(lambda: told and told[-1]["bytes"] > 2 * MB)
    hub.resume.set()

    assert await first == await second
    assert content(located(models)) == MODEL
    assert hub.transfers() == [None]


# --- what is not what it should be


@pytest.mark.parametrize(
    "fault", [Fault(corrupt=True), Fault(longer=1), Fault(ignore_range=True, longer=MB)], ids=["corrupt", "1", "many"]
)
@pytest.mark.parametrize("start", [0, 3 * MB], ids=["whole", "rest"])
async def test_what_is_not_as_announced_is_asked_for_once_more(
    hub: Hub, models: Path, fault: Fault, start: int
) -> None:
    hub.push(NAME, MODEL)
    begun(models, WEIGHTS[:start])
    hub.faults += [fault]

    await download(models)

    assert content(located(models)) == MODEL
    assert len(hub.transfers()) == 2
    assert hub.transfers()[-1] is None


async def test_what_is_never_as_announced_is_refused(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.always = Fault(corrupt=True)

    said = await refusal(models)

    assert said == "model.safetensors of org/name is not what the hub announced, after two tries: try again later"
    assert len(hub.transfers()) == 2
    assert not list(models.rglob("*.part"))
    assert located(models) is None


async def test_a_range_that_is_ignored_does_no_harm(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.always = Fault(ignore_range=True)
    begun(models, WEIGHTS[:MB])

    await download(models)

    assert content(located(models)) == MODEL
    assert hub.transfers() == [f"bytes={MB}-"]


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (WEIGHTS, []),
        (WEIGHTS + b"x", [None]),
        (b"x" * MB + WEIGHTS[MB : 2 * MB], [f"bytes={2 * MB}-", None]),
        (b"x" * len(WEIGHTS), [None]),
    ],
    ids=["whole", "too long", "damaged", "another"],
)
async def test_what_an_earlier_try_left(hub: Hub, models: Path, left: bytes, asked: list[str | None]) -> None:
    hub.push(NAME, MODEL)
    begun(models, left)

    await download(models)

    assert content(located(models)) == MODEL
    assert hub.transfers() == asked


async def test_a_file_among_the_blobs_that_was_cut_is_replaced(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    begun(models, b"").with_suffix("").write_bytes(WEIGHTS[:MB])

    await download(models)

    assert content(located(models)) == MODEL


async def test_a_file_in_a_snapshot_that_is_no_link_is_replaced_when_it_was_cut(hub: Hub, models: Path) -> None:
    folder = places.snapshot(places.repository(NAME, models), hub.push(NAME, MODEL))
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG[:3])
    (folder / "model.safetensors").symlink_to("../../blobs/nothing")

    await download(models)

    assert content(located(models)) == MODEL


@pytest.mark.parametrize("path", ["../../../x.json", "/x.json", "a/../../../../x.json"])
async def test_a_file_that_would_lead_elsewhere_is_refused(hub: Hub, models: Path, path: str) -> None:
    hub.push(NAME, MODEL | {path: b"{}"})

    with pytest.raises(HostLoadFailed, match="does not speak its language"):
        await download(models)

    assert not models.exists()


@pytest.mark.parametrize("revision", [None, "v1"])
async def test_what_is_marked_incomplete_is_hidden_until_it_is_complete(
    hub: Hub, models: Path, revision: str | None
) -> None:
    commit = hub.push(NAME, MODEL, branch=revision or "main")
    await download(models, revision=revision)
    places.marker(places.repository(NAME, models), commit).touch()
    assert located(models, revision) is None
    assert located(models, commit) is None

    await download(models, revision=revision)

    assert content(located(models, revision)) == MODEL
    assert hub.transfers() == [None]


async def test_what_nobody_will_finish_is_removed_after_a_day(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    blobs = begun(models, WEIGHTS[:MB]).parent
    days_ago = time.time() - 3 * 24 * 3600
    for name in (f"{'a' * 64}.part", f"{'b' * 40}.1234.incomplete", f"{'c' * 64}", part(models).name):
        (blobs / name).touch()
        os.utime(blobs / name, (days_ago, days_ago))
    (blobs / f"{'d' * 64}.part").touch()

    await download(models)

    assert hub.transfers() == [f"bytes={MB}-"]
    assert {path.name[0] for path in blobs.iterdir()} - {etag(wanted)[0] for wanted in MODEL.values()} <= {"c", "d"}
    assert (blobs / f"{'c' * 64}").exists()
    assert (blobs / f"{'d' * 64}.part").exists()
    assert not (blobs / f"{'a' * 64}.part").exists()
    assert not (blobs / f"{'b' * 40}.1234.incomplete").exists()


# --- what is refused


async def test_weights_that_can_carry_code_are_not_downloaded(hub: Hub, models: Path) -> None:
    hub.push(NAME, {"config.json": CONFIG, "model.ckpt": WEIGHTS, "onnx/model.safetensors": WEIGHTS})

    said = await refusal(models)

    assert said == (
        "its weights come only as model.ckpt, a format that can run code when it is read; convert them to safetensors"
    )
    assert hub.asked("/resolve/") == hub.asked("/cdn/") == []
    assert not models.exists()


async def test_a_repository_without_weights(hub: Hub, models: Path) -> None:
    hub.push(NAME, {"README.md": b"..."})

    assert await refusal(models) == "its repository holds no weights (*.safetensors)"


async def test_a_model_that_nobody_has(hub: Hub, models: Path) -> None:
    assert await refusal(models) == "the hub has no model org/name (if it is a private one, set HF_TOKEN)"


@pytest.mark.parametrize("name", ["a/b/c", "../x", "org/..", "org/na me", "/etc/passwd", "org--x/y", "x\0"])
async def test_a_name_that_is_none_is_not_asked_for(hub: Hub, models: Path, name: str) -> None:
    with pytest.raises(HostLoadFailed, match="neither a folder nor a name on the hub"):
        await download(models, name=name)

    assert hub.requests == []
    assert not models.exists()


@pytest.mark.parametrize("revision", ["v9", "f" * 40, "feature/x"])
async def test_a_revision_that_is_not_there(hub: Hub, models: Path, revision: str) -> None:
    hub.push(NAME, MODEL)

    assert await refusal(models, revision=revision) == f"org/name has no revision {revision} on the hub"


@pytest.mark.parametrize("revision", ["../../x", "a/../../x", "a//b", "x\0"])
async def test_a_revision_that_would_lead_elsewhere_is_not_asked_for(hub: Hub, models: Path, revision: str) -> None:
    hub.push(NAME, MODEL)

    with pytest.raises(HostLoadFailed, match="has no revision"):
        await download(models, revision=revision)

    assert hub.requests == []


async def test_a_model_that_needs_permission(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    hub.gated.add(NAME)

    assert await refusal(models) == (
        "org/name needs permission: accept its licence on the hub and set HF_TOKEN, or put its files into the folder "
        "org/name inside the models folder (models_dir)"
    )


async def test_offline(hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert await refusal(models) == (
        "org/name is not on this machine and downloads are off (HF_HUB_OFFLINE): unset that, or put its files into "
        "the folder org/name inside the models folder (models_dir)"
    )
    assert hub.requests == []


async def test_a_hub_that_cannot_be_reached(hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)

    assert await refusal(models) == (
        "org/name is not on this machine and the hub cannot be reached: check the network, or put its files into the "
        "folder org/name inside the models folder (models_dir)"
    )


async def test_a_hub_that_gives_no_answer(hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.silent = True

    assert "the hub cannot be reached" in await refusal(models)


@pytest.mark.parametrize(
    ("status", "reason"), [(500, ""), (503, ""), (401, ": it does not accept the token (HF_TOKEN)"), (403, "")]
)
async def test_a_hub_that_does_not_want_to(hub: Hub, models: Path, status: int, reason: str) -> None:
    hub.status = status

    assert await refusal(models) == f"the hub refused to hand out org/name (HTTP {status}){reason}"


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"[]", b"{}", b'{"id": "x", "sha": "../../x"}'])
async def test_a_network_that_wants_a_login(hub: Hub, models: Path, page: bytes) -> None:
    hub.page = page

    assert "does not speak its language" in await refusal(models)


async def test_a_models_folder_that_is_none(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    models.write_text("a file")

    assert await refusal(models) == "org/name could not be stored in the models folder: Not a directory"


# --- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk.small_disk(tmp_path / "disk", 300) as mounted:
        yield mounted


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


async def test_a_disk_that_is_too_small_is_seen_before(hub: Hub, small_disk: Path) -> None:
    hub.push(NAME, MODEL)
    resize(small_disk, "194m")

    said = await refusal(small_disk)

    assert said == (
        "org/name needs 0.004 GB more in the models folder, where 0.203 GB are free; 0.200 GB have to stay free"
    )
    assert hub.asked("/cdn/") == []


async def test_what_other_downloads_will_take_is_counted(hub: Hub, models: Path) -> None:
    hub.push(NAME, MODEL)
    models.mkdir()
    free = shutil.disk_usage(models).free

    said = await refusal(models, reserved_bytes=free)

    assert re.fullmatch(
        r"org/name needs 0\.004 GB more in the models folder, where [\d.]+ GB are free, of which other downloads will "
        r"take [\d.]+ GB; 0\.200 GB have to stay free",
        said,
    )
    assert hub.asked("/cdn/") == []


async def test_a_disk_that_fills_up_in_the_middle(hub: Hub, small_disk: Path) -> None:
    hub.push(NAME, MODEL)
    hub.faults += [Fault(pause_after=2 * MB)]
    start = asyncio.create_task(refusal(small_disk))
    await holds(lambda: part(small_disk).exists() and part(small_disk).stat().st_size == 2 * MB)
    resize(small_disk, "3m")
    hub.resume.set()

    assert await start == "org/name could not be stored: the disk is full that holds the models folder"

    assert not list(small_disk.rglob("*.part"))
    resize(small_disk, "300m")
    await download(small_disk)
    assert content(located(small_disk)) == MODEL


def test_the_hub_of_these_tests_names_files_as_the_real_one_does() -> None:
    assert etag(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert etag(WEIGHTS) == sha256(WEIGHTS)
