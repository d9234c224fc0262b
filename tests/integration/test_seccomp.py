"""deploy/seccomp/chromium.json: a profile as container engines read it, under which Chromium has its sandbox."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support import seccomp
from support.server import REPOSITORY

PROFILE = REPOSITORY / "deploy" / "seccomp" / "chromium.json"
profile: dict[str, Any] = json.loads(PROFILE.read_text())
allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

NEWER_THAN_LIBSECCOMP = {
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_wake",
    "map_shadow_stack",
    "mseal",
}
DANGEROUS = (
    *("acct", "add_key", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module", "fsmount"),
    *("fsopen", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl"),
    *("kcmp", "kexec_file_load", "kexec_load", "keyctl", "mount", "mount_setattr", "move_mount"),
    *("name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root"),
    *("process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setdomainname"),
    *("sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2", "userfaultfd"),
    "vhangup",
)
NEEDED = ("chroot", "clone", "execve", "futex", "mmap", "openat", "prctl", "seccomp", "socket", "unshare")
NAMESPACES = {"user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "mount": 0x00020000, "ipc": 0x08000000}

CALLING = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(*(ctypes.c_ulong(int(text)) for text in sys.argv[1:]))
sys.exit(ctypes.get_errno() if result < 0 else 0)
"""


@pytest.fixture(scope="module")
def library() -> Any:
    try:
        return seccomp.library()
    except OSError:
        pytest.skip("libseccomp is not installed")


def under(file: Path, *command: str, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """Run a command under a profile, which is put into force by way of another command."""
    path = os.pathsep.join(map(str, (REPOSITORY / "src", REPOSITORY / "tests")))
    return subprocess.run(
        [*before, sys.executable, "-m", "support.seccomp", str(file), *command],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_a_profile_of_the_oci() -> None:
    # https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp; Docker keeps a comment, too.
    assert profile.keys() == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == errno.EPERM
    assert profile["architectures"] == [*seccomp.ARCHITECTURES]
    for rule in profile["syscalls"]:
        assert {"names", "action"} <= rule.keys() <= {"names", "action", "errnoRet", "args", "comment"}
        assert rule["action"] in seccomp.ACTIONS
        assert ("errnoRet" in rule) == (rule["action"] == "SCMP_ACT_ERRNO")
        assert rule["names"]
        for comparison in rule.get("args", ()):
            assert {"index", "value", "op"} <= comparison.keys() <= {"index", "value", "valueTwo", "op"}
            assert 0 <= comparison["index"] < 6
            assert comparison["op"] in seccomp.OPERATORS
            assert ("valueTwo" in comparison) == (comparison["op"] == "SCMP_CMP_MASKED_EQ")


def test_no_call_is_named_twice_without_conditions() -> None:
    unconditional = [name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len({*unconditional}) == len(unconditional)
    conditional = {name for rule in profile["syscalls"] if "args" in rule for name in rule["names"]}
    assert conditional == {"clone", "unshare", "socket", "personality"}
    assert not conditional & {*unconditional}, "a condition beside none is none"


def test_every_call_exists(library: Any) -> None:
    names = {name for rule in profile["syscalls"] for name in rule["names"]} - NEWER_THAN_LIBSECCOMP
    resolve = library.seccomp_syscall_resolve_name_arch
    unknown = {
        name
        for name in names
        # Negative, too, are the numbers of calls that other processors have.
        if all(resolve(architecture, name.encode()) < 0 for architecture in seccomp.ARCHITECTURES.values())
    }
    assert unknown == set()


def test_it_holds_what_chromium_needs_and_nothing_that_is_dangerous() -> None:
    assert {*NEEDED} <= allowed
    assert {*DANGEROUS} & allowed == set()
    assert "clone3" not in allowed


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("unshare", [NAMESPACES["user"]], 0),
        ("unshare", [NAMESPACES["user"] | NAMESPACES["pid"] | NAMESPACES["net"]], 0),
        ("unshare", [NAMESPACES["user"] | NAMESPACES["mount"]], errno.EPERM),
        ("unshare", [NAMESPACES["ipc"]], errno.EPERM),
        ("clone", [NAMESPACES["mount"], 0, 0, 0, 0], errno.EPERM),
        ("clone3", [0, 0], errno.ENOSYS),
        ("socket", [1, 1, 0], 0),
        ("socket", [10, 1, 0], 0),
        ("socket", [16, 3, 0], 0),
        ("socket", [16, 3, 12], errno.EPERM),  # NETLINK_NETFILTER
        ("socket", [38, 5, 0], errno.EPERM),  # AF_ALG
        ("socket", [40, 1, 0], errno.EPERM),  # AF_VSOCK
        ("ptrace", [0, 0, 0, 0], errno.EPERM),
        ("io_uring_setup", [1, 0], errno.EPERM),
        ("keyctl", [0, 0, 0], errno.EPERM),
        ("personality", [0xFFFFFFFF], 0),
        ("personality", [0x0040000], errno.EPERM),  # ADDR_NO_RANDOMIZE
    ],
)
def test_the_kernel_enforces_it(library: Any, call: str, arguments: Sequence[int], expected: int) -> None:
    if call == "unshare" and not expected and subprocess.run(["unshare", "-U", "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    number = library.seccomp_syscall_resolve_name(call.encode())
    done = under(PROFILE, sys.executable, "-c", CALLING, str(number), *map(str, arguments))
    assert done.returncode == expected, done.stderr


BROWSER = """
import asyncio
from homelab_ai.crawling.browser_process import BrowserProcess

async def main():
    process = await BrowserProcess.start({"sandbox": None})
    print(process.described["sandboxed"])
    await process.stop()

asyncio.run(main())
"""
ANYBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""In a user namespace, as somebody who is not root there: Chromium does not try its sandbox as root."""


@pytest.mark.usefixtures("library")
def test_chromium_has_its_sandbox_under_it_and_not_without_what_it_adds(tmp_path: Path) -> None:
    if subprocess.run([*ANYBODY, *ANYBODY[:2], "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces within user namespaces are not allowed here")
    added = [["unshare"], ["chroot"]]
    without = [rule for rule in profile["syscalls"] if rule["names"] not in added]
    (without_file := tmp_path / "without.json").write_text(json.dumps({**profile, "syscalls": without}))
    for file, sandboxed in ((PROFILE, True), (without_file, False)):
        done = under(file, sys.executable, "-c", BROWSER, before=ANYBODY)
        assert done.stdout == f"{sandboxed}\n", done.stderr
