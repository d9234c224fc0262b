"""`homelab-ai doctor`: a configuration that cannot be used, and one that is asking for trouble."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.cli.doctor import configuration
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.settings import Settings


def smells(values: dict[str, Any], **around: Any) -> list[Finding]:
    found = configuration.smells(Settings.model_validate(values), **{"environ": {}, **around})
    return [finding for finding in found if finding.level != "ok"]


def test_one_that_is_not_there_is_none_at_fault(tmp_path: Path) -> None:
    settings, (finding,) = configuration.read(None, {"HOMELAB_AI__DATA_DIR": str(tmp_path)})
    assert settings
    assert settings.data_dir == tmp_path
    assert (finding.level, finding.saw) == ("ok", "there is no config.yaml here: the defaults are in force")


def test_every_problem_of_one_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server:\n  prot: 1\ndata_dir: []\n")
    settings, findings = configuration.read(file, {})
    assert settings is None
    assert [finding.level for finding in findings] == ["problem", "problem"]
    assert findings[0].saw.startswith(f"{file}:2: server.prot: unknown setting; did you mean port?")


def test_one_that_everybody_may_write_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    file.chmod(0o666)
    _, (finding,) = configuration.read(file, {})
    assert (finding.level, finding.mend) == ("problem", f"chmod o-w {file}")
    file.chmod(0o644)
    _, (finding,) = configuration.read(file, {})
    assert finding.level == "ok"


@pytest.mark.parametrize(
    ("values", "level", "saw", "mend"),
    [
        (
            {"server": {"host": "0.0.0.0"}, "security": {"auth_enabled": False}},
            "problem",
            "security.auth_enabled is false, and whoever reaches the service on 0.0.0.0 may do everything",
            "security: {auth_enabled: true}",
        ),
        (
            {"security": {"networks": [{"cidr": "0.0.0.0/0", "name": "all"}]}},
            "problem",
            "security.networks lets everybody in without a key",
            "192.168.1.0/24",
        ),
        (
            {"server": {"trusted_proxies": ["::/0"]}},
            "problem",
            "server.trusted_proxies holds ::/0",
            "the address of your proxy",
        ),
        (
            {"security": {"ip_allowlist": ["192.168.1.0/24"]}},
            "warning",
            "security.ip_allowlist keeps out 127.0.0.1, this machine",
            "security: {ip_allowlist: [192.168.1.0/24, 127.0.0.1]}",
        ),
    ],
)
def test_what_smells_is_told(values: dict[str, Any], level: str, saw: str, mend: str) -> None:
    (finding,) = smells(values)
    assert finding.level == level
    assert saw in finding.saw
    assert mend in finding.mend


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"server": {"host": "0.0.0.0"}},
        {"security": {"auth_enabled": False}},
        {"security": {"ip_allowlist": ["127.0.0.0/8"], "networks": [{"cidr": "192.168.1.0/24", "name": "home"}]}},
        {"server": {"trusted_proxies": ["172.16.0.0/12"]}},
        {"crawl": {"allow_networks": ["192.168.1.10"], "allow_hosts": [".lan"]}},
    ],
)
def test_what_is_meant_so_does_not_smell(values: dict[str, Any]) -> None:
    assert smells(values, gateways=[ip_address("192.168.1.1")]) == []


def test_what_has_no_effect_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "reserved_in_use", lambda settings: ["crawl.to_come"])
    (finding,) = smells({})
    assert (finding.level, finding.saw) == ("warning", "crawl.to_come has no effect in this version")


def test_whoever_has_logged_in_from_elsewhere_is_not_to_lock_themselves_out() -> None:
    values = {"security": {"ip_allowlist": ["127.0.0.1", "192.168.1.0/24"]}}
    assert smells(values, environ={"SSH_CLIENT": "192.168.1.9 50000 22"}) == []
    (finding,) = smells(values, environ={"SSH_CLIENT": "192.168.2.9 50000 22"})
    assert finding.saw == "security.ip_allowlist keeps out 192.168.2.9, from where you have logged in"
    assert finding.mend == "security: {ip_allowlist: [127.0.0.1/32, 192.168.1.0/24, 192.168.2.9]}"


def test_a_router_that_pages_may_be_read_from_is_told() -> None:
    entry = {"name": "app", "key_hash": "0" * 64, "crawl_allow_networks": ["10.0.0.0/8"]}
    values = {"crawl": {"allow_networks": ["192.168.1.0/24"]}, "security": {"api_keys": [entry]}}
    gateways = [ip_address("192.168.1.1"), ip_address("10.0.0.1")]
    assert [finding.saw for finding in smells(values, gateways=gateways)] == [
        "pages may be read from 192.168.1.0/24, and so from your router (192.168.1.1)",
        "pages may be read from 10.0.0.0/8, and so from your router (10.0.0.1)",
    ]
    assert smells(values) == []


@pytest.mark.parametrize(
    ("values", "module", "extra"),
    [
        ({"security": {"rate_limit_url": "redis://127.0.0.1:6379/0"}}, "redis", "[redis]"),
        ({"tracing": {"enabled": True}}, "opentelemetry", "[tracing]"),
    ],
)
def test_what_a_setting_needs_has_to_be_installed(values: dict[str, Any], module: str, extra: str) -> None:
    assert smells(values, installed=lambda name: True) == []
    (finding,) = smells(values, installed=lambda name: None if name == module else True)
    assert finding.level == "problem"
    assert extra in finding.mend


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("nas.lan", False)],
)
def test_who_reaches_what_listens(host: str, expected: bool) -> None:  # noqa: FBT001
    assert configuration.is_loopback(host) is expected
