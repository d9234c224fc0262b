"""Why Chromium's sandbox is off, where it is: what of this machine forbids the namespaces that it is made of."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_NEEDED = 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWUSER, NEWPID and NEWNET (clone(2))."""
_TRY = "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)"
_TRY += f"; sys.exit(ctypes.get_errno() if libc.unshare({_NEEDED}) else 0)"
_CONTAINER_FILES = (".dockerenv", "run/.containerenv")


@dataclass(frozen=True)
class Facts:
    """What decides about namespaces of users."""

    is_root: bool = False
    in_container: bool = False
    filtered: bool = False
    """Whether a seccomp filter is in force."""
    most: int | None = None
    """user.max_user_namespaces."""
    unprivileged: int | None = None
    """kernel.unprivileged_userns_clone, of Debian's older kernels."""
    apparmor: int | None = None
    """kernel.apparmor_restrict_unprivileged_userns, of Ubuntu since 23.10."""
    refused: int = 0
    """The error with which the kernel answers an attempt; 0 if it is granted."""


def facts(root: Path = Path("/")) -> Facts:
    """Look at this machine and this user."""
    sysctls = root / "proc/sys"
    status = (_text(root / "proc/self/status") or "").splitlines()
    return Facts(
        is_root=os.geteuid() == 0,
        in_container=any((root / name).exists() for name in _CONTAINER_FILES),
        filtered="Seccomp:\t2" in status,
        most=_number(sysctls / "user/max_user_namespaces"),
        unprivileged=_number(sysctls / "kernel/unprivileged_userns_clone"),
        apparmor=_number(sysctls / "kernel/apparmor_restrict_unprivileged_userns"),
        refused=subprocess.run([sys.executable, "-c", _TRY], check=False).returncode,  # noqa: S603 - ourselves
    )


def why(known: Facts) -> tuple[str, str]:
    """Return what forbids the sandbox, as the end of a sentence, and the line that mends it: that of the nearest."""
    by_filter = known.refused and known.filtered
    reasons = (
        (
            known.is_root,
            "Chromium has none for root",
            "run the service as a user of its own: User=homelab-ai in its unit, or docker run --user 1000",
        ),
        (known.most == 0, "user.max_user_namespaces is 0", _sysctl("user.max_user_namespaces=15000")),
        (
            known.unprivileged == 0,
            "kernel.unprivileged_userns_clone is 0",
            _sysctl("kernel.unprivileged_userns_clone=1"),
        ),
        (
            by_filter and known.in_container,
            "the container's seccomp profile forbids user namespaces",
            "docker run --security-opt seccomp=deploy/seccomp/chromium.json",
        ),
        (by_filter, "a seccomp filter forbids user namespaces", "RestrictNamespaces=no in the unit of systemd"),
        (
            known.apparmor,
            "AppArmor lets only programs that it knows have user namespaces",
            _sysctl("kernel.apparmor_restrict_unprivileged_userns=0"),
        ),
        (
            known.refused,
            f"the kernel refuses user namespaces ({errno.errorcode.get(known.refused, known.refused)})",
            "unshare --user true, and what the kernel has logged",
        ),
    )
    for holds, reason, mend in reasons:
        if holds:
            return reason, mend
    return "the doctor does not know why", "/usr/lib/chromium/chromium-headless-shell --dump-dom about:blank says more"


def _sysctl(setting: str) -> str:
    return f"echo {setting} | sudo tee /etc/sysctl.d/60-homelab-ai.conf && sudo sysctl --system"


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _number(file: Path) -> int | None:
    text = (_text(file) or "").strip()
    return int(text) if text.isdecimal() else None
