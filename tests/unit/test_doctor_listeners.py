"""The doctor's listeners: they see who comes, and only that."""

import socket
from ipaddress import ip_address

from homelab_ai.cli.doctor.forbidden import LOOPBACK
from homelab_ai.cli.doctor.listeners import Listeners
from support.server import free_port

HERE, HERE_6 = LOOPBACK


def visit(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=10) as caller:
        return caller.recv(1)


def test_whoever_comes_is_seen_once_and_hung_up_on() -> None:
    with Listeners([HERE], [free_port()]) as listeners:
        (port,) = listeners.ports.values()
        assert listeners.came() == set(), "the doctor's own try does not count"
        assert visit("127.0.0.1", port) == b""
        assert listeners.came() == {HERE}
        assert listeners.came() == set()


def test_a_connection_is_seen_before_anybody_has_taken_it() -> None:
    with Listeners([HERE], [free_port()]) as listeners:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", listeners.ports[HERE])):
                assert listeners.came() == {HERE}


def test_each_address_has_the_first_port_that_is_free() -> None:
    taken, free = sorted((free_port(), free_port()))
    with socket.create_server(("127.0.0.1", taken)):
        other = ip_address("127.0.0.2")
        with Listeners([HERE, other], [free, taken]) as listeners:
            assert listeners.ports == {HERE: free, other: taken}
            visit("127.0.0.2", taken)
            assert listeners.came() == {other}


def test_there_are_none_where_nothing_is_free() -> None:
    foreign = ip_address("192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as taken, Listeners([HERE, foreign], [taken.getsockname()[1]]) as none:
        assert none.ports == {}
        assert none.came() == set()


def test_nothing_listens_afterwards() -> None:
    with Listeners([HERE], [port := free_port()]):
        pass
    with socket.create_server(("127.0.0.1", port)):
        pass
