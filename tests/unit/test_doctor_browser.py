"""`homelab-ai doctor`: the browser, and why its sandbox is off where it is."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.cli.doctor.browser import of_browser
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.cli.doctor.sandbox import Facts, facts, why
from homelab_ai.crawling.browser_process import BrowserStartFailed

FREE = Facts(most=96000)


@pytest.mark.parametrize(
    ("known", "reason", "mend"),
    [
        ({"is_root": True, "refused": 1}, "Chromium has none for root", "docker run --user 1000"),
        ({"most": 0, "refused": errno.ENOSPC}, "user.max_user_namespaces is 0", "user.max_user_namespaces=15000"),
        ({"unprivileged": 0, "refused": 1}, "kernel.unprivileged_userns_clone is 0", "unprivileged_userns_clone=1"),
        (
            {"filtered": True, "in_container": True, "refused": 1},
            "the container's seccomp profile forbids",
            "--security-opt seccomp=deploy/seccomp/chromium.json",
        ),
        ({"filtered": True, "refused": 1}, "a seccomp filter forbids", "RestrictNamespaces=no"),
        ({"apparmor": 1}, "AppArmor", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"apparmor": 0, "refused": errno.ENOSPC}, "the kernel refuses user namespaces (ENOSPC)", "unshare"),
        ({"filtered": True}, "the doctor does not know why", "chromium-headless-shell"),
    ],
)
def test_each_reason_has_its_remedy(known: dict[str, Any], reason: str, mend: str) -> None:
    said, remedy = why(replace(FREE, **known))
    assert said.startswith(reason)
    assert mend in remedy


def test_the_facts_are_those_of_the_kernel(tmp_path: Path) -> None:
    for name, text in (
        ("proc/sys/user/max_user_namespaces", "96000\n"),
        ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
        ("proc/self/status", "Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
        ("run/.containerenv", ""),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    known = facts(tmp_path)
    assert (known.most, known.unprivileged, known.apparmor) == (96000, None, 1)
    assert (known.filtered, known.in_container) == (True, True)
    bare = facts(tmp_path / "nothing")
    assert (bare.most, bare.filtered, bare.in_container) == (None, False, False)


def looked(*, in_service: bool | None, here: bool) -> Finding:
    """What is said of the sandbox."""
    start = {"version": "156.0", "sandboxed": here}
    browser, sandbox = of_browser(in_service, start=lambda: start, facts=lambda: replace(FREE, is_root=True))
    assert (browser.level, browser.saw) == ("ok", "Chromium 156.0 starts")
    assert sandbox.subject == "sandbox"
    return sandbox


def test_the_service_knows_best_about_its_sandbox() -> None:
    for in_service, here in ((None, True), (True, True), (True, False)):
        assert looked(in_service=in_service, here=here).level == "ok"
    for in_service in (None, False):
        off = looked(in_service=in_service, here=False)
        assert (off.level, off.saw.partition(".")[0]) == ("warning", "off: Chromium has none for root")
    elsewhere = looked(in_service=False, here=True)
    assert (elsewhere.level, elsewhere.saw.partition(",")[0]) == ("warning", "off in the running service")


def test_a_browser_that_does_not_start_is_told() -> None:
    def start() -> dict[str, Any]:
        raise BrowserStartFailed("no Chromium is installed")

    (finding,) = of_browser(None, start=start)
    assert (finding.level, finding.saw) == ("warning", "pages cannot be rendered: no Chromium is installed")
    assert finding.mend == "apt-get install chromium-headless-shell"
