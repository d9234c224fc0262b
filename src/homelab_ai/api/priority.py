"""Which requests may wait for others: the `Priority` header of RFC 9218, where 3 is usual and 7 the least urgent.

A program that works through a photo library says `Priority: u=5`, and so does not delay the voice command that comes
in between.
"""

import re

from starlette.requests import Request

from homelab_ai.models.job_queue import Lane

_USUAL_URGENCY = 3
_URGENCY = re.compile(r"(?:^|,)\s*u=([0-7])(?=\s*(?:;|,|$))")


def lane_of(request: Request) -> Lane:
    """Return the lane for this request. What is no urgency is ignored, as the RFC asks (section 4)."""
    found = _URGENCY.findall(request.headers.get("Priority", ""))
    return "bulk" if found and int(found[-1]) > _USUAL_URGENCY else "interactive"
