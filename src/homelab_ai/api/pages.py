"""Which web page a browser sends a request for, by the headers that no page can set.

Host tells of a name that was made to point here (DNS rebinding), Origin and Sec-Fetch-Site of a page that sends
requests to another site than its own (https://www.w3.org/TR/fetch-metadata/).
"""

import re
from collections.abc import Collection

from starlette.datastructures import Headers

from homelab_ai.errors import Forbidden

_AUTHORITY = re.compile(r"(?:\[([^\[\]@]+)\]|([^\[\]@:/\s]+))(?::[0-9]*)?")


def check_page(headers: Headers, hosts: Collection[str]) -> None:
    """Raise `Forbidden` where the request is that of a web page which none of these hosts has served."""
    origin = headers.get("Origin")
    if any(len(headers.getlist(name)) > 1 for name in ("Origin", "Sec-Fetch-Site")):  # no browser sends two
        raise Forbidden("There is more than one Origin or Sec-Fetch-Site header")
    if headers.get("Sec-Fetch-Site") == "cross-site" or (
        origin is not None and (_host_name(origin.partition("://")[2]) or None) not in hosts
    ):
        raise Forbidden("A web page of another site may not use this service without a key of its own")


def host_of(headers: Headers) -> str:
    """The name by which the service was called; "" where there is none, or more than one."""
    given = headers.getlist("Host")
    return _host_name(given[0]) if len(given) == 1 else ""


def _host_name(authority: str) -> str:
    """The name in a Host header or an origin, without its port, in lower case; "" where it is written otherwise."""
    found = _AUTHORITY.fullmatch(authority)
    return (found[1] or found[2]).lower() if found else ""
