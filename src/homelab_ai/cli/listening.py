"""Whether the service could listen where it is to: `serve` asks before anything begins, the doctor while none runs."""

import errno
import socket


def objection(host: str, port: int) -> tuple[str, str] | None:
    """Why nothing could listen there now, and what mends that; None where it could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, and so below
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "another program has it", f"ss -ltnp 'sport = :{port}' shows which; or server: {{port: 8001}}"
        if error.errno == errno.EACCES:
            return "this user may not have it", "server: {port: 8000}; those below 1024 are root's"
        return "it is no address of this machine", "server: {host: 127.0.0.1}, or 0.0.0.0 for the whole network"
    return None
