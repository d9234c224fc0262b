"""The `Priority` header: what may wait, and what is no such header."""

import pytest
from starlette.requests import Request

from homelab_ai.api.priority import lane_of


@pytest.mark.parametrize(
    ("header", "lane"),
    [
        (None, "interactive"),
        ("", "interactive"),
        ("u=0", "interactive"),
        ("u=3", "interactive"),
        ("u=4", "bulk"),
        ("u=7", "bulk"),
        ("i, u=5", "bulk"),
        ("u=5, i", "bulk"),
        ("u=5;x=1", "bulk"),
        ("u=5, u=1", "interactive"),  # the last one counts (RFC 8941 section 3.2)
        ("u=8", "interactive"),
        ("u=55", "interactive"),
        ("u=-1", "interactive"),
        ("uu=5", "interactive"),
        ("bulk", "interactive"),
    ],
)
def test_the_lane_is_what_the_header_says(header: str | None, lane: str) -> None:
    headers = [] if header is None else [(b"priority", header.encode())]
    assert lane_of(Request({"type": "http", "headers": headers})) == lane
