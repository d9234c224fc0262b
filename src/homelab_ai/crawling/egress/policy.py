"""Who may be reached: the public internet, and what the operator has opened of the home."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

import psutil

from homelab_ai.crawling.egress.addresses import (
    Address,
    Network,
    embedded,
    is_loopback,
    is_never_allowed,
    why_not_public,
)
from homelab_ai.crawling.egress.targets import Target, canonical


def own_addresses() -> frozenset[Address]:
    """Return the addresses of this machine's interfaces, as they are now."""
    texts = (each.address for addresses in psutil.net_if_addrs().values() for each in addresses)
    return frozenset(address for text in texts if (address := _address(text.partition("%")[0])))


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:  # psutil lists hardware addresses, too
        return None


@dataclass(frozen=True)
class Machine:
    """What is this machine's own."""

    addresses: frozenset[Address] = frozenset()
    """Of its interfaces."""
    ports: frozenset[int] = frozenset()
    """On which the service itself listens, the guard included."""

    def has(self, address: Address) -> bool:
        """Tell whether a connection there ends at this machine."""
        return is_loopback(address) or address in self.addresses

    def is_beside(self, address: Address) -> bool:
        """Tell whether it is of IPv6 and in the same home (a /56, as most providers give one) as this machine.

        Routers and printers have public addresses there, and no firewall towards those who are inside.
        """
        return isinstance(address, IPv6Address) and any(
            isinstance(own, IPv6Address) and int(own) >> 72 == int(address) >> 72 for own in self.addresses
        )


@dataclass(frozen=True)
class Policy:
    """What one passage may reach."""

    allow_networks: tuple[Network, ...] = ()
    """May be reached although they are not public. This machine only by a network of its one address."""
    allow_hosts: tuple[str, ...] = ()
    """May be reached whatever their address: `nas.lan` is that host, `.lan` every host whose name ends so."""
    allow_ports: tuple[int, ...] = (80, 443, 8080, 8443)
    """Of all hosts."""
    _hosts: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hosts", frozenset(map(canonical, self.allow_hosts)))

    def objection(self, target: Target, addresses: Iterable[Address], machine: Machine) -> str | None:
        """Return why this may not be reached at any of these addresses, in words for the caller; None if it may.

        The words never tell the address itself: who may only have pages fetched is not to learn of the home's names.
        """
        if target.port not in self.allow_ports:
            return f"port {target.port} is not among those that are allowed"
        named = self._names(target.host)
        objections = (self._objection_to(address, target.port, machine, named=named) for address in addresses)
        return next(filter(None, objections), None)

    def _objection_to(self, address: Address, port: int, machine: Machine, *, named: bool) -> str | None:
        if is_never_allowed(address):
            return "its address is one at which clouds hand out credentials"
        for each in (address, *embedded(address)):
            if machine.has(each):
                if port in machine.ports:
                    return "it is this service itself"
                if not named and ip_network(each) not in self.allow_networks:
                    return "its address is one of this machine's own"
            if named or any(each in network for network in self.allow_networks):
                continue
            if kind := why_not_public(each):
                return f"its address is {kind}"
            if machine.is_beside(each):
                return "its address is in this machine's own network"
        return None

    def _names(self, host: str) -> bool:
        """Tell whether the operator has named this host, or a domain that it is in."""
        labels = host.split(".")
        domains = ("." + ".".join(labels[start:]) for start in range(1, len(labels)))
        return host in self._hosts or any(domain in self._hosts for domain in domains)
