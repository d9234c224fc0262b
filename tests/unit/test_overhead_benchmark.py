"""The benchmark of what the service costs a request, with a few requests."""

import re
import subprocess
import sys
from pathlib import Path

FEW = """
from benchmarks import overhead

overhead._ROUNDS, overhead._REQUESTS = 1, 2
overhead.main()
print(*overhead.measure())
"""


def test_it_tells_every_layer_and_what_is_around_a_request() -> None:
    command = [sys.executable, "-c", FEW]
    shown = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True).stdout
    for layer in ("ContextMiddleware", "AccessMiddleware", "BodyLimits"):
        assert re.search(rf"{layer} +│ +\d+\.\d", shown), shown
    assert re.search(r"access, limits, metrics and log together: -?\d+\.\d µs \(limit 150\)", shown), shown
    assert "beside='limit 150 µs'" in shown
    assert "limited=True" in shown
