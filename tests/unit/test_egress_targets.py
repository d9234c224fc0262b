"""How hosts are spelled: what browsers take for one address is one here, and what is odd is refused."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_ai.crawling.egress.targets import Refused, Target, canonical


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("spelling", "host"),
    [
        # https://url.spec.whatwg.org/#concept-ipv4-parser
        *((spelling, "127.0.0.1") for spelling in words("127.0.0.1 127.0.0.1. 127.1 127.0.1 2130706433 0x7f000001")),
        *(
            (spelling, "127.0.0.1")
            for spelling in words("0X7F.1 0x7f.0.0.1 0177.0.0.1 017700000001 0x7f.0x0.0x1 127.0.0.01")
        ),
        *((spelling, "0.0.0.0") for spelling in words("0 00 0x 0x0 0.0 0.0.0.0 0x00000000 0x.0x.0.0")),
        *((spelling, "192.168.1.1") for spelling in words("192.168.257 192.11010305 0300.0250.01.01 3232235777")),
        ("169.254.43518", "169.254.169.254"),
        ("4294967295", "255.255.255.255"),
        ("255.255.255.255", "255.255.255.255"),
        ("1.2.3", "1.2.0.3"),
        # IPv6
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[2606:4700:0:0::1111]", "2606:4700::1111"),
        ("[FE80::A]", "fe80::a"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[::ffff:7f00:1]", "::ffff:7f00:1"),
        # names
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("nas", "nas"),
        ("a_b.example", "a_b.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("foo-.tumblr.example", "foo-.tumblr.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0x7f.1.nip.example", "0x7f.1.nip.example"),
        ("127.0.0.1x", "127.0.0.1x"),
        ("0xg", "0xg"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_one_host_is_one_host(spelling: str, host: str) -> None:
    target = Target.of_authority(f"{spelling}:443".encode())
    assert (target.host, target.port) == (host, 443)
    assert target == Target(host, 443, target.address, b"")
    assert Target.of_url(f"http://{spelling}/a?b".encode()).host == host


@pytest.mark.parametrize(
    "host",
    [
        *words("256.1.1.1 1.2.3.256 1.2.65536 1.16777216 4294967296 1.2.3.4.5 0.0.0.0.0"),
        *words("08 09.1 0x100000000 1.2.3.08 1.0xfg.2"),
        *words("127.0.0.1.. .127.0.0.1 1..2 nas.1 example.0x7f example.127 1e9.1 -1.1 0o17.1 1_0.1 ١٢٧.1"),
        *words("[::1 ::1 [::1]] [[::1]] [] [::1%25eth0] [::1%eth0] [fe80::1%1]"),
        *words("[127.0.0.1] [v1.a] [::g] [1:2] [::1]x x[::1]"),
        *words("example..com .example.com . .. example.com.. exa%6dple.com %31%32%37.0.0.1 bücher.example ⑯.example"),
        *words("a/b a\\b a?b a#b a,b a;b a'b a\"b a<b a|b a^b a`b a{b} a*b *.example a!b a$b a&b a(b) a=b a~b a+b"),
        "a" * 64 + ".example",
        ".".join(["a" * 49] * 6),
        "",
        "a b",
        " a",
        "a\t",
        "a\0b",
        "a\r\nb",
        "127.0.0.1\0.example.com",
    ],
)
def test_odd_hosts_are_refused(host: str) -> None:
    with pytest.raises(Refused):
        Target.of_authority(f"{host}:80".encode())


@pytest.mark.parametrize(
    "authority",
    words("a a: a:0 a:65536 a:99999999 a:-1 a:+80 a:0x50 a:80: a:80:80 :80 a:\u0668\u0660")
    + words("u@a:80 u:p@a:80 a:80@b:80 @a:80 [::1]"),
)
def test_odd_authorities_are_refused(authority: str) -> None:
    with pytest.raises(Refused):
        Target.of_authority(authority.encode())


@pytest.mark.parametrize(
    "url",
    [
        *words("https://a/ ftp://a/ file:///etc/passwd file://a/"),
        *words("view-source:http://a/ chrome://gpu javascript:1 data:,a"),
        *words(
            "ws://a/ /a a a:80 * //a/ http:a http:/a http:///a http:// http://?a http://u@a/ http://u:p@a/ http://a/#b"
        ),
        *words("http://a:b/ http://a:/ http://a:0/ http://a\\@b/ http://a%2f@b/ http://[::1/ http://a:80:80/"),
        "http://a\r\nHost: b/",
        " http://a/",
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(Refused):
        Target.of_url(url.encode())


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("http://a", "a", 80, "/", "a"),
        ("HTTP://A:80/", "a", 80, "/", "a"),
        ("http://a:8080/b?c=d", "a", 8080, "/b?c=d", "a:8080"),
        ("http://a?c", "a", 80, "/?c", "a"),
        ("http://a//b/../c%00", "a", 80, "//b/../c%00", "a"),
        ("http://a/@b:c", "a", 80, "/@b:c", "a"),
        ("http://a/http://b/", "a", 80, "/http://b/", "a"),
        ("http://[2606::1]:8080/", "2606::1", 8080, "/", "[2606::1]:8080"),
        ("http://0x7f.1/", "127.0.0.1", 80, "/", "127.0.0.1"),
    ],
)
def test_parts_of_a_url(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = Target.of_url(url.encode())
    assert (target.host, target.port, target.path, target.authority) == (host, port, path.encode(), authority.encode())


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("NAS.lan.", "nas.lan"),
        (".LAN", ".lan"),
        ("[FD00::0:1]", "fd00::1"),
        ("fd00::0001", "fd00::1"),
        ("192.168.1.10", "192.168.1.10"),
    ],
)
def test_what_an_operator_writes(written: str, host: str) -> None:
    assert canonical(written) == host


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}", "0x000{:x}"]), min_size=4),
    st.integers(1, 4),
)
def test_every_spelling_is_what_the_system_takes_it_for(number: int, forms: list[str], parts: int) -> None:
    first = [number >> 24, number >> 16 & 255, number >> 8 & 255][: parts - 1]
    values = [*first, number & (256 ** (5 - parts) - 1)]
    spelling = ".".join(form.format(value) for form, value in zip(forms, values, strict=False))
    assert Target.of_authority(f"{spelling}:80".encode()).host == socket.inet_ntoa(socket.inet_aton(spelling))
