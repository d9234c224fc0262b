"""Which addresses belong to the public internet, and which are refused whatever an operator allows.

The registries of special addresses are those of RFC 6890 as IANA keeps them. `ipaddress` is not asked: its `is_global`
says yes to multicast, site-local and translated addresses, and its `is_private` no to 100.64.0.0/10.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_INTERNET_6 = IPv6Network("2000::/3")
"""All that has ever been given out of IPv6 for use between networks."""

_NOT_PUBLIC: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), words)
    for network, words in (
        ("0.0.0.0/8", "of no host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private (shared by a provider's customers, or of Tailscale)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "of a cloud's own services"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation only"),
        ("192.88.99.0/24", "of a relay between IPv4 and IPv6"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks only"),
        ("198.51.100.0/24", "for documentation only"),
        ("203.0.113.0/24", "for documentation only"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "of no host"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address written as IPv6"),
        ("::ffff:0:0:0/96", "an IPv4 address written as IPv6"),
        ("::/96", "an IPv4 address written as IPv6"),
        ("64:ff9b::/96", "translated to IPv4"),
        ("64:ff9b:1::/48", "translated to IPv4"),
        ("2001::/32", "tunnelled over IPv4"),
        ("2001:2::/48", "for benchmarks only"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation only"),
        ("2002::/16", "tunnelled over IPv4"),
        ("3fff::/20", "for documentation only"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)

_NEVER: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "169.254.42.42/32",  # Scaleway
            "169.254.169.0/24",  # AWS, Azure, Google, OpenStack and most others
            "169.254.170.0/24",  # credentials of AWS's containers
            "192.0.0.192/32",  # Oracle
            "fd00:42::42/128",  # Scaleway
            "fd00:c1::a9fe:a9fe/128",  # Oracle
            "fd00:ec2::/64",  # AWS
            "fd20:ce::254/128",  # Google
            "fe80::a9fe:a9fe/128",  # OpenStack
            # Which IPv4 address such a one is translated to is known to nobody but the network's own translator.
            "64:ff9b:1::/48",
        ),
    )
)
"""Where clouds hand out a machine's credentials."""

_LAST_32_BITS = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))


def why_not_public(address: Address) -> str | None:
    """Return what kind of address it is, in words that follow "its address is"; None if it is public.

    IPv6 addresses that stand for IPv4 ones are not public whichever they stand for: no site on the internet has one.
    """
    for network, words in _NOT_PUBLIC:
        if address in network:
            return words
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _INTERNET_6):
        return "reserved"
    return None


def is_never_allowed(address: Address) -> bool:
    """Tell whether it is, or stands for, an address at which clouds hand out a machine's credentials."""
    return any(each in network for each in (address, *embedded(address)) for network in _NEVER)


def is_loopback(address: Address) -> bool:
    """Tell whether a connection there ends at this machine itself: loopback, and 0.0.0.0, which Linux takes for it."""
    return address.is_loopback or address.is_unspecified


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address leads to where a network translates or tunnels."""
    if isinstance(address, IPv4Address):
        return ()
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    if any(address in network for network in _LAST_32_BITS) and int(address) > 1:  # not :: or ::1
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()
