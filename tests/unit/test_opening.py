"""What is said of a page that is refused: in step with the words of the guard."""

from ipaddress import ip_address

import pytest

from homelab_ai.crawling.egress.policy import Machine, Policy
from homelab_ai.crawling.egress.targets import Target
from homelab_ai.crawling.passage import blocked

MACHINE = Machine(frozenset({ip_address("192.0.2.7"), ip_address("2a02:8388:1:2::7")}), frozenset({8080}))


@pytest.mark.parametrize(
    ("address", "port", "setting"),
    [
        ("1.1.1.1", 22, "crawl.allow_ports"),
        ("192.168.1.1", 80, "crawl.allow_networks or crawl.allow_hosts"),
        ("fe80::1", 80, "crawl.allow_networks or crawl.allow_hosts"),
        ("2a02:8388:1:2::1", 80, "crawl.allow_networks or crawl.allow_hosts"),
        ("192.0.2.7", 80, "crawl.allow_hosts (or crawl.allow_networks, with its one address)"),
        ("127.0.0.1", 80, "crawl.allow_hosts (or crawl.allow_networks, with its one address)"),
        ("127.0.0.1", 8080, None),
        ("169.254.169.254", 80, None),
    ],
)
def test_the_setting_that_opens_it_is_named(address: str, port: int, setting: str | None) -> None:
    reason = Policy().objection(Target("a.example", port), [ip_address(address)], MACHINE)
    assert reason
    opens = f"; in the service's config.yaml, {setting} opens it" if setting else ""
    assert str(blocked(reason)) == f"The page may not be fetched: {reason}{opens}"
