"""The day in a home that `make load` has Locust live through: every kind of request in it is one that is answered."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import REPOSITORY, Server

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = f"""
models: {{image_caption: [{{id: shapes, hf_model: {SHAPES}}}]}}
security: {{allow_localhost: true}}
"""
PROGRAM = """
import json, sys
from benchmarks.locustfile import Home
from locust.env import Environment

Home.host = sys.argv[1]
environment = Environment(user_classes=[Home])
environment.create_local_runner()  # it is what counts
home = Home(environment)
for task in {task.__name__: task for task in Home.tasks}.values():
    task(home)
entries = environment.stats.entries.values()
print(json.dumps({entry.name: [entry.num_requests, entry.num_failures] for entry in entries}))
"""


@pytest.mark.timeout(150)
def test_every_request_of_the_day_is_answered(tmp_path: Path) -> None:
    with Server(tmp_path, config=CONFIG) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.url],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "a short text": [1, 0],
        "32 texts of 5 to 150 words, which can wait": [1, 0],
        "an image, 16 words": [1, 0],
    }
