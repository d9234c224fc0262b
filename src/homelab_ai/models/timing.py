"""Where the time of one request went."""


class Timing:
    """Seconds by part, in the order in which the parts came up first, each summed over the runs of the request.

    `load` is the wait for the model, `queue` that for its runs; the other parts are those that the engine names in the
    header of its answers. A run that was shared with others counts whole.
    """

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def add(self, part: str, seconds: float) -> None:
        """Count so much more for a part."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds

    def add_all(self, other: "Timing") -> None:
        """Count all that another one holds."""
        for part, seconds in other.parts.items():
            self.add(part, seconds)
