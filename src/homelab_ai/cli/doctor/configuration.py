"""The configuration: whether it can be used, and what in it is asking for trouble."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.crawling.egress.addresses import Address
from homelab_ai.settings import ConfigurationError, Settings, load_settings, reserved_in_use
from homelab_ai.settings.loading import path_of

_SUBJECT = "configuration"
_INSTALL = "pip install -c constraints.txt -e '.[{}]'"


def read(config: Path | None, environ: Mapping[str, str] = os.environ) -> tuple[Settings | None, list[Finding]]:
    """Return the settings, if they can be used, and what is to be said of where they stand."""
    file = path_of(config, environ)
    try:
        settings = load_settings(config, environ)
    except ConfigurationError as error:
        mend = "config.example.yaml explains every setting"
        return None, [Finding(_SUBJECT, "problem", problem, mend) for problem in error.problems]
    try:
        mode = file.stat().st_mode
    except OSError:
        return settings, [Finding(_SUBJECT, "ok", f"there is no {file} here: the defaults are in force")]
    if mode & stat.S_IWOTH:
        saw = f"everybody on this machine may change {file.resolve()}, keys and all"
        return settings, [Finding(_SUBJECT, "problem", saw, f"chmod o-w {file.resolve()}")]
    return settings, [Finding(_SUBJECT, "ok", f"{file.resolve()} can be used")]


def smells(
    settings: Settings,
    *,
    gateways: Iterable[Address] = (),
    environ: Mapping[str, str] = os.environ,
    installed: Callable[[str], Any] = find_spec,
) -> Iterator[Finding]:
    """Yield what is allowed, but hardly meant. `gateways` are the routers of this machine's networks."""
    yield from _doors(settings)
    yield from _locked_out(settings, environ)
    yield from _opened_home(settings, [*gateways])
    yield from _not_installed(settings, installed)
    for name in reserved_in_use(settings):
        yield Finding(_SUBJECT, "warning", f"{name} has no effect in this version", "remove it")


def _doors(settings: Settings) -> Iterator[Finding]:
    host, security = settings.server.host, settings.security
    if not is_loopback(host):
        if not security.auth_enabled:
            saw = f"security.auth_enabled is false, and whoever reaches the service on {host} may do everything"
            yield Finding("access", "problem", saw, "security: {auth_enabled: true}")
        else:
            yield Finding("access", "ok", f"the service listens on {host}, and asks for a key")
    else:
        yield Finding("access", "ok", f"the service listens on {host}, which only this machine reaches")
    for entry in security.networks:
        if not entry.cidr.prefixlen:
            saw = f"security.networks lets everybody in without a key: {entry.cidr} is the whole internet"
            yield Finding("access", "problem", saw, "security: {networks: [{cidr: 192.168.1.0/24, name: home}]}")
    for network in settings.server.trusted_proxies:
        if not network.prefixlen:
            saw = f"whoever connects is believed about the client's address: server.trusted_proxies holds {network}"
            yield Finding(
                "access", "problem", saw, "server: {trusted_proxies: [192.168.1.2]}, the address of your proxy"
            )


def _locked_out(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    allowed = settings.security.ip_allowlist
    if not allowed:
        return
    callers = {ip_address("127.0.0.1"): "this machine"}
    if client := environ.get("SSH_CLIENT", "").split():
        callers[ip_address(client[0].partition("%")[0])] = "from where you have logged in"
    for address, who in callers.items():
        if not any(address in network for network in allowed):
            saw = f"security.ip_allowlist keeps out {address}, {who}"
            listed = ", ".join(map(str, (*allowed, address)))
            yield Finding("access", "warning", saw, f"security: {{ip_allowlist: [{listed}]}}")


def _opened_home(settings: Settings, gateways: Iterable[Address]) -> Iterator[Finding]:
    opened = [
        *settings.crawl.allow_networks,
        *(network for entry in settings.security.api_keys for network in entry.crawl_allow_networks),
    ]
    for network in dict.fromkeys(opened):
        if routers := [str(address) for address in gateways if address in network]:
            saw = f"pages may be read from {network}, and so from your router ({', '.join(routers)})"
            mend = "open the machines that you mean, one by one, such as crawl: {allow_networks: [192.168.1.10]}"
            yield Finding("pages", "warning", saw, mend)


def _not_installed(settings: Settings, installed: Callable[[str], Any]) -> Iterator[Finding]:
    for setting, wanted, module, extra in (
        ("security.rate_limit_url", settings.security.rate_limit_url != "memory://", "redis", "redis"),
        ("tracing.enabled", settings.tracing.enabled, "opentelemetry", "tracing"),
    ):
        if wanted and not installed(module):
            saw = f"{setting} needs what is not installed, so the service does not start"
            yield Finding(_SUBJECT, "problem", saw, _INSTALL.format(extra))


def is_loopback(host: str) -> bool:
    """Tell whether what listens there is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
