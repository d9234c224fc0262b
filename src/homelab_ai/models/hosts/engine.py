"""What a model host runs: the contract between `process` and the engine modules of each ability.

An engine module is named by its dotted path and imported only inside a host, because it may import torch. It has one
function, `load(options, report) -> Engine`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Report = Callable[[Mapping[str, Any]], None]
"""Given to `load`: tells those who wait how far it is, cheap, from any thread. A model has something written into the
log as its `note`, the end of a sentence; a download has figures of its own.
"""


class Engine(Protocol):
    """One loaded model, used from one thread unless it says otherwise."""

    def describe(self) -> dict[str, Any]:
        """Facts about the loaded model that clients may see (dimensions, device, precision, ...).

        `runs_at_once` says how many threads may call `run` at a time: one where it is absent.
        """
        ...

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes | memoryview]:
        """Answer one run: a small header and raw bytes, both the engine's own. An exception fails this run only.

        The header may say where the time went, as `seconds` by part (`tokenize`, `inference`, ...), and how many
        `tokens` it read or, of captions, wrote.
        """
        ...


class LoadError(Exception):
    """The model cannot be loaded, for a reason that a person can act on. The text reaches clients: no host paths."""
