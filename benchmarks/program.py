"""A program that is measured beside the service, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Program:
    """A program of ours that reads one JSON value a line and answers with the seconds that it took."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, by another interpreter where it needs what this one has not."""
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", module, *arguments],
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.about: dict[str, Any] = json.loads(self._line())

    def ask(self, value: object) -> float:
        """Return the seconds that it takes over this."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()
