"""Who may be reached: the public internet, and what the operator has opened, with what stays closed all the same."""

from ipaddress import ip_address, ip_network

import psutil
import pytest

from homelab_ai.crawling.egress.policy import Machine, Policy, own_addresses
from homelab_ai.crawling.egress.targets import Target

MACHINE = Machine(frozenset(map(ip_address, ("192.168.1.5", "fd00::5", "5.5.5.5", "2a02:1:2:3::5"))), frozenset({8000}))
CREDENTIALS = "its address is one at which clouds hand out credentials"
OWN = "its address is one of this machine's own"
PRIVATE = "its address is private"


def objection(
    host: str, *answers: str, port: int = 80, networks: str = "", hosts: str = "", ports: tuple[int, ...] = (80, 8000)
) -> str | None:
    """What is said of a host that has these addresses."""
    target = Target.of_authority(f"{host}:{port}".encode())
    policy = Policy(tuple(map(ip_network, networks.split())), tuple(hosts.split()), ports)
    addresses = [target.address] if target.address else [ip_address(answer) for answer in answers]
    return policy.objection(target, addresses, MACHINE)


def test_the_public_internet_is_open() -> None:
    assert objection("example.com", "93.184.216.34", "2606::1") is None
    assert objection("93.184.216.34") is None


@pytest.mark.parametrize("answers", [("192.168.1.1",), ("93.184.216.34", "192.168.1.1"), ("10.0.0.1", "2606::1")])
def test_one_private_answer_is_enough(answers: tuple[str, ...]) -> None:
    assert objection("example.com", *answers) == PRIVATE


def test_ports_are_those_that_are_allowed_whoever_is() -> None:
    refusal = "port 22 is not among those that are allowed"
    assert objection("example.com", "93.184.216.34", port=22) == refusal
    assert objection("nas.lan", "192.168.1.1", port=22, networks="192.168.0.0/16", hosts="nas.lan") == refusal
    assert objection("example.com", "93.184.216.34", port=22, ports=(22,)) is None


def test_a_network_opens_its_own_addresses_only() -> None:
    assert objection("nas.lan", "192.168.1.1", networks="192.168.1.0/24 fd00::/64") is None
    assert objection("nas.lan", "192.168.1.1", "fd00::1", networks="192.168.1.0/24 fd00::/64") is None
    assert objection("nas.lan", "192.168.2.1", networks="192.168.1.0/24 fd00::/64") == PRIVATE
    assert objection("nas.lan", "192.168.1.1", "10.0.0.1", networks="192.168.1.0/24") == PRIVATE


@pytest.mark.parametrize(
    ("hosts", "host", "said"),
    [
        ("nas.lan", "nas.lan", None),
        ("NAS.lan.", "nas.LAN", None),
        ("nas.lan", "nas.lan.", None),
        ("nas.lan", "a.nas.lan", PRIVATE),
        ("nas.lan", "lan", PRIVATE),
        ("nas.lan", "xnas.lan", PRIVATE),
        ("nas.lan", "nas.lan.example.com", PRIVATE),
        (".lan", "nas.lan", None),
        (".lan", "a.nas.lan", None),
        (".lan", "lan", PRIVATE),
        (".lan", "xlan", PRIVATE),
        (".lan", "lan.example.com", PRIVATE),
        ("192.168.1.1", "other.lan", PRIVATE),
    ],
)
def test_hosts_are_open_by_their_exact_name_or_by_their_domain(hosts: str, host: str, said: str | None) -> None:
    assert objection(host, "192.168.1.1", hosts=hosts) == said


@pytest.mark.parametrize("spelling", ["192.168.1.1", "0xc0.0xa8.257", "3232235777"])
def test_a_host_that_is_an_address_is_open_in_every_spelling(spelling: str) -> None:
    assert objection(spelling, hosts="192.168.1.1") is None
    assert objection(spelling, hosts="192.168.1.2") == PRIVATE


@pytest.mark.parametrize(
    "answer",
    [
        "fd00:ec2::254",
        *(
            form.format(address)
            for address in ("169.254.169.254", "100.100.100.200", "168.63.129.16")
            for form in ("{}", "::ffff:{}", "64:ff9b::{}")
        ),
    ],
)
def test_credentials_of_clouds_stay_closed_whatever_is_open(answer: str) -> None:
    assert objection("metadata.lan", answer, networks="0.0.0.0/0 ::/0", hosts="metadata.lan .lan") == CREDENTIALS


@pytest.mark.parametrize(
    "address", ["192.168.1.5", "fd00::5", "5.5.5.5", "127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::"]
)
def test_this_machine_is_open_only_by_name(address: str) -> None:
    assert objection("a.lan", address) == OWN
    assert objection("a.lan", address, networks="0.0.0.0/0 ::/0 127.0.0.0/8 192.168.1.0/24") == OWN
    assert objection("a.lan", address, hosts="a.lan") is None
    assert objection("a.lan", address, networks=address) is None


def test_neighbours_with_public_addresses_are_at_home() -> None:
    assert objection("a.lan", "2a02:1:2:3:abcd::99") == "its address is in this machine's own network"
    assert objection("a.lan", "2a02:1:2:3::99", networks="2a02:1:2:3::/64") is None
    assert objection("a.lan", "2a02:1:2:3::99", hosts="a.lan") is None
    assert objection("a.lan", "2a02:1:2:1a4::99", "2a02:1:2:302::99", "5.5.5.6") is None


def test_the_service_itself_stays_closed_whatever_is_open() -> None:
    for address in ("127.0.0.1", "192.168.1.5", "::ffff:127.0.0.1", "0.0.0.0"):
        refusal = objection("a.lan", address, port=8000, networks=f"0.0.0.0/0 ::/0 {address}", hosts="a.lan")
        assert refusal == "it is this service itself"
    assert objection("a.lan", "192.168.1.6", port=8000, hosts="a.lan") is None


@pytest.mark.parametrize("form", ["::ffff:{}", "::ffff:0:{}", "::{}", "64:ff9b::{}"])
def test_an_ipv4_address_within_one_of_ipv6_has_to_be_open_too(form: str) -> None:
    kinds = {"64:ff9b::{}": "its address is translated to IPv4"}
    closed = kinds.get(form, "its address is an IPv4 address written as IPv6")
    assert objection("a.lan", form.format("8.8.8.8")) == closed
    assert objection("a.lan", form.format("10.0.0.1"), networks="10.0.0.0/8") == closed
    assert objection("a.lan", form.format("10.0.0.1"), networks="::/0") == PRIVATE
    assert objection("a.lan", form.format("127.0.0.1"), networks="::/0") == OWN
    assert objection("a.lan", form.format("8.8.8.8"), networks="::/0") is None
    assert objection("a.lan", form.format("10.0.0.1"), networks="::/0 10.0.0.0/8") is None


def test_no_refusal_tells_the_address() -> None:
    for answer in ("192.168.1.1", "fd00::1", "169.254.169.254", "127.0.0.1"):
        assert answer not in str(objection("a.lan", answer))


def test_the_machines_own_addresses_are_those_of_its_interfaces() -> None:
    found = own_addresses()
    assert ip_address("127.0.0.1") in found
    listed = {each.address.partition("%")[0] for name in psutil.net_if_addrs().values() for each in name}
    assert {str(address) for address in found} <= listed
