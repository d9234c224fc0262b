"""Which addresses are public: a table of every kind that is not, at its edges, and of those beside it."""

from ipaddress import ip_address

import pytest

from homelab_ai.crawling.egress.addresses import embedded, is_loopback, is_never_allowed, why_not_public


def words(text: str) -> list[str]:
    return text.split()


PUBLIC = words("""
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255
192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 203.0.112.255 203.0.114.0
223.255.255.255
2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2003::1 2606:4700::1111 2a00::1 3ffe::1
""")

REFUSED = {
    "of no host": "0.0.0.0 0.0.0.1 0.255.255.255 ::",
    "private": """10.0.0.0 10.255.255.255 172.16.0.0 172.17.0.1 172.18.0.1 172.31.255.255 192.168.0.0 192.168.255.255
        fc00:: fd12:3456::1 fdff:ffff::1 fec0:: feff::1""",
    "private (shared by a provider's customers, or of Tailscale)": "100.64.0.0 100.100.100.100 100.127.255.255",
    "loopback": "127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 ::1",
    "of a cloud's own services": "168.63.129.16",
    "link-local": "169.254.0.0 169.254.169.254 169.254.255.255 fe80:: fe80::1 febf::1",
    "reserved": """192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.255 240.0.0.0 255.255.255.255 100:: 200::1 400::1 1000::1
        2001:1::1 2001:20::1 2001:1ff:: 4000::1 5f00::1 8000::1 c000::1 e000::1 f000::1 fe00::1""",
    "for documentation only": "192.0.2.0 192.0.2.255 198.51.100.1 203.0.113.255 2001:db8:: 2001:db8:ffff:: 3fff::1",
    "for benchmarks only": "198.18.0.0 198.19.255.255 2001:2::1",
    "of a relay between IPv4 and IPv6": "192.88.99.0 192.88.99.1 192.88.99.255",
    "multicast": "224.0.0.0 224.0.0.251 239.255.255.255 ff00:: ff02::1 ff0e::1 ffff::1",
    "an IPv4 address written as IPv6": """::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 ::ffff:0:10.0.0.1 ::8.8.8.8
        ::127.0.0.1 ::2""",
    "translated to IPv4": "64:ff9b::8.8.8.8 64:ff9b::10.0.0.1 64:ff9b:1::1 64:ff9b:1:ffff::8.8.8.8",
    "tunnelled over IPv4": "2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2002:: 2002:808:808::1 2002:7f00:1::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert why_not_public(ip_address(address)) is None


@pytest.mark.parametrize(
    ("address", "words"), [(address, words) for words, addresses in REFUSED.items() for address in addresses.split()]
)
def test_not_public(address: str, words: str) -> None:
    assert why_not_public(ip_address(address)) == words


def test_an_address_with_a_zone_is_not_public() -> None:
    assert why_not_public(ip_address("2606:4700::1111%eth0")) == "reserved"


@pytest.mark.parametrize(
    "address",
    words("""169.254.169.254 169.254.169.123 169.254.170.2
    169.254.170.23 169.254.42.42 100.100.100.200 168.63.129.16 192.0.0.192
    fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42 fd00:c1::a9fe:a9fe fe80::a9fe:a9fe
    ::ffff:169.254.169.254 ::169.254.169.254 ::ffff:0:169.254.169.254 64:ff9b::169.254.169.254 64:ff9b::168.63.129.16
    64:ff9b:1::1 2002:a9fe:a9fe::1 2001:0:a9fe:a9fe::1 2001:0:808:808:0:0:5601:5601"""),
)
def test_where_credentials_are_handed_out(address: str) -> None:
    assert is_never_allowed(ip_address(address))


@pytest.mark.parametrize(
    "address", words("169.254.1.1 192.168.1.1 100.64.0.1 fd00::1 64:ff9b::10.0.0.1 2606::1 fe80::1")
)
def test_what_an_operator_may_allow(address: str) -> None:
    assert not is_never_allowed(ip_address(address))


@pytest.mark.parametrize(
    ("address", "inner"),
    {
        "192.0.2.1": "",
        "2606::1": "",
        "::": "",
        "::1": "",
        "::7f00:1": "127.0.0.1",
        "::ffff:10.0.0.1": "10.0.0.1",
        "64:ff9b::a00:1": "10.0.0.1",
        "2002:a00:1::5": "10.0.0.1",
        "2001:0:a00:1:0:0:f5ff:fffd": "10.0.0.1 10.0.0.2",
    }.items(),
)
def test_what_stands_for_an_address_of_ipv4(address: str, inner: str) -> None:
    assert " ".join(map(str, embedded(ip_address(address)))) == inner


def test_what_ends_at_this_machine() -> None:
    assert [text for text in ("127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1") if is_loopback(ip_address(text))] == [
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "::",
    ]
