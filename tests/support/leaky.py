"""An engine that fails in every way, and says each time what it was given. A host imports it by its dotted path."""

import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from homelab_ai.models.hosts.engine import Engine, Report


def load(options: dict[str, Any], report: Report) -> Engine:
    return Leaky()


class Leaky:
    """What to do stands in what it is given."""

    def describe(self) -> dict[str, Any]:
        return {"backend": "leaky", "dimensions": 4, "max_length": 100, "fingerprint": "0" * 16}

    def run(self, options: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        told = body.decode("latin-1") + str(options)
        if "raise" in told:
            raise KeyError(told)
        if "die" in told:
            os.kill(os.getpid(), signal.SIGKILL)
        if "nonsense" in told:
            return {"shape": told, "truncated": told}, told.encode()
        return {"shape": [1, 4], "truncated": []}, np.ones(4, dtype=np.float32).tobytes()
