"""Listeners on this machine's own addresses: whoever gets through to one has got past the guard, whatever is said.

They take connections, say nothing and hang up. Each is tried by the doctor itself first: a trap that cannot be sprung
proves nothing.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address
from types import TracebackType
from typing import Self

from homelab_ai.crawling.egress.addresses import Address

_LOOKED_EVERY_SECONDS = 0.1
"""How long it may take to notice that the listeners are to be closed."""
_PATIENCE_SECONDS = 2.0
"""For the doctor's own connection, which nothing but a firewall holds up."""


class Listeners:
    """One on each address, on the first of the ports that is free there; none where all are taken."""

    def __init__(self, addresses: Iterable[Address], ports: Sequence[int]) -> None:
        """Listen at once; `ports` are those that pages may be fetched from."""
        self._lock = threading.Lock()
        self._came: set[Address] = set()
        opened = {address: listener for address in addresses if (listener := _listening(address, ports))}
        self._sockets = {address: listener for address, listener in opened.items() if self._works(address, listener)}
        for address in opened.keys() - self._sockets.keys():
            opened[address].close()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="listeners", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for listener in self._sockets.values():
            listener.close()

    @property
    def ports(self) -> Mapping[Address, int]:
        """Where they are."""
        return {address: listener.getsockname()[1] for address, listener in self._sockets.items()}

    def came(self) -> set[Address]:
        """Return at which addresses somebody has connected since this was last asked.

        Whoever asked for a connection before this call is known: the kernel has it in the queue from which it is taken.
        """
        with self._lock:
            self._take(self._sockets)
            came, self._came = self._came, set()
        return came

    def _serve(self) -> None:
        # So that a page which should not have got here is not waited for until its time is over.
        while self._sockets and not self._stopping.is_set():
            if select.select([*self._sockets.values()], [], [], _LOOKED_EVERY_SECONDS)[0]:
                with self._lock:
                    self._take(self._sockets)

    def _take(self, sockets: Mapping[Address, socket.socket]) -> None:
        for address, listener in sockets.items():
            with contextlib.suppress(OSError):  # BlockingIOError: nobody (any more)
                while True:
                    listener.accept()[0].close()
                    self._came.add(address)

    def _works(self, address: Address, listener: socket.socket) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(listener.getsockname()[:2], _PATIENCE_SECONDS):
            self._take({address: listener})
        came, self._came = self._came, set()
        return bool(came)


def _listening(address: Address, ports: Sequence[int]) -> socket.socket | None:
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    for port in sorted(ports, key=lambda port: (port < 1024, port)):  # noqa: PLR2004 - those below are root's
        with contextlib.suppress(OSError):  # the port is taken, or not ours to take
            listener = socket.create_server((str(address), port), family=family)
            listener.setblocking(False)
            return listener
    return None
