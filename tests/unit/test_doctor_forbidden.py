"""What `homelab-ai doctor --egress` asks for: all that is not public, in every spelling."""

from ipaddress import IPv4Address, ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from homelab_ai.cli.doctor.forbidden import LOOPBACK, Forbidden, Surroundings, everything, gateways, host_of, spellings
from homelab_ai.crawling.egress import addresses
from homelab_ai.crawling.egress.targets import Target

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
tun0\t00000000\t0100000A\t0003\t0\t0\t700\t00000000\t0\t0\t0
"""


def pages(**around: object) -> list[Forbidden]:
    nowhere: dict[str, object] = {"service": (), "own": (), "own_of_the_service": False, "gateways": (), "ports": {}}
    return [*everything(Surroundings(**{**nowhere, "online": False, **around}))]  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["127.0.0.1", "169.254.169.254", "192.168.1.250"])
def test_every_spelling_is_the_address(text: str) -> None:
    address = ip_address(text)
    assert isinstance(address, IPv4Address)
    hosts = spellings(address)
    assert len({*hosts}) == len(hosts) > 15
    for host in hosts:
        # As a browser reads it before it asks for it.
        plain = unquote(host).replace("\u3002", ".").translate({0xFF10 + digit: str(digit) for digit in range(10)})
        target = Target.of_url(f"http://{plain}/".encode())
        assert target.address
        assert address in {target.address, *addresses.embedded(target.address)}, host


def test_every_kind_of_address_that_is_not_public_is_asked_for() -> None:
    asked = {page.address for page in pages() if page.address}
    hosts = spellings(IPv4Address("127.0.0.1"))
    asked |= {ip_address(host.strip("[]")) for host in hosts if host.startswith("[")}
    for network, words in addresses._NOT_PUBLIC:
        assert any(address in network for address in asked), f"{network}, {words}"


def test_where_the_doctor_listens_it_is_asked_for_by_port() -> None:
    here, own = LOOPBACK[0], ip_address("192.168.1.7")
    found = pages(own=(own,), ports={here: 8443, LOOPBACK[1]: 8080, own: 8081})
    urls = {page.url for page in found}
    assert {
        "http://127.0.0.1:8443/",
        "http://[::1]:8080/",
        "http://192.168.1.7:8081/",
        "http://localhost:8443/",
    } <= urls
    assert not any(page.url == "http://127.0.0.1/" for page in found)


def test_the_service_itself_and_the_routers_are_asked_for() -> None:
    found = pages(service=["127.0.0.1:8123"], gateways=[ip_address("10.9.8.7")])
    (itself,) = (page for page in found if page.subject == "the service itself")
    assert (itself.url, itself.never_opened) == ("http://127.0.0.1:8123/health", True)
    assert {"http://10.9.8.7/", "https://10.9.8.7/"} <= {page.url for page in found}


def test_names_of_the_internet_are_looked_up_only_when_that_is_asked_for() -> None:
    names = {page.host for page in pages() if page.host}
    assert names == {"localhost"}
    hosts = {urlsplit(page.url).hostname for page in pages(online=True) if page.host}
    assert {"metadata.google.internal", "127.0.0.1.nip.io"} <= hosts


def test_gateways_are_those_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES)
    assert [*map(str, gateways(tmp_path / "route"))] == ["192.168.1.1", "10.0.0.1"]
    assert gateways(tmp_path / "nothing") == []


def test_hosts_are_written_as_in_addresses_of_pages() -> None:
    assert [host_of(address) for address in LOOPBACK] == ["127.0.0.1", "[::1]"]
