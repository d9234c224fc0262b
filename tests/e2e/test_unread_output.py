"""Logs that nobody reads must not stop the service."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from support.server import KEYLESS, free_port, wait_for


def test_a_full_pipe_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "homelab_ai", "serve", "--port", str(port)],
        cwd=tmp_path,
        env=os.environ | KEYLESS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:

            def ready() -> bool:
                try:
                    return client.get("/ready").is_success
                except httpx.TransportError:
                    return False

            wait_for(ready)
            for _ in range(1500):  # twice what fits in a pipe
                assert client.get("/health").is_success
            process.terminate()
        _, said = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert b"Traceback" not in said
