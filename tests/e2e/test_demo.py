"""`make demo`: ends by itself, and shows what it is meant to show."""

import re
import subprocess
import sys

from support.server import REPOSITORY


def test_the_demonstration_pairs_the_sentences_that_mean_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        env={"COLUMNS": "150", "FORCE_COLOR": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if re.match(r"│\s*\d", re.sub(r"\x1b\[[\d;]*m", "", line))]
    closest = [
        next(position for position, cell in enumerate(re.split("[│┃]", row)[3:], start=1) if "\x1b[1;32m" in cell)
        for row in rows
    ]
    assert closest == [2, 1, 4, 3, 6, 5, 8, 7]
