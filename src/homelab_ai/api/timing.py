"""The header `Server-Timing` (https://www.w3.org/TR/server-timing/): where the time of a request went."""

from homelab_ai.models.timing import Timing


def server_timing(timing: Timing) -> dict[str, str]:
    """Return the header, in milliseconds; none where nothing is known."""
    parts = ", ".join(f"{part};dur={1000 * seconds:.2f}" for part, seconds in timing.parts.items())
    return {"Server-Timing": parts} if parts else {}
