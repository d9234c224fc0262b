"""The service in a process of its own while a `with` block lasts: for the demonstration and the benchmarks."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Service:
    """`homelab-ai serve` on a free port of this machine, open to it, with its data in the given folder.

    `models` is a folder to share with others of its kind: downloads and exports are in it.
    """

    def __init__(self, folder: Path, models: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "service.log"
        self._folder = folder
        ours = "HOMELAB_AI__RESOURCES__"  # what of the machine is to be used, the caller may say
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AI") or ours in name
        }
        self._environment = inherited | {"HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
        if models:
            self._environment["HOMELAB_AI__MODELS_DIR"] = str(models)

    def __enter__(self) -> Self:
        """Start it and wait until it is ready; `SystemExit` with its log when it does not start."""
        started = time.monotonic()
        command = [sys.executable, "-m", "homelab_ai", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=log, stderr=log)
        while self.process.poll() is None and time.monotonic() < started + 30:
            with contextlib.suppress(OSError):
                connection = self.connect()
                connection.request("GET", "/ready")
                assert connection.getresponse().status == http.HTTPStatus.OK
                self.seconds_to_ready = time.monotonic() - started
                return self
            time.sleep(0.005)
        self.process.kill()
        sys.exit(f"The service did not start:\n{self._log.read_text()}")

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of its own, past any proxy that the environment names."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def embed(self, texts: list[str], connection: http.client.HTTPConnection | None = None) -> list[list[float]]:
        """Return the vector of each text; `SystemExit` with the answer when it is an error."""
        connection = connection or self.connect()
        connection.request("POST", "/api/embed", json.dumps({"texts": texts}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != http.HTTPStatus.OK:
            sys.exit(f"The service answered {response.status}: {answer.decode()}")
        vectors: list[list[float]] = json.loads(answer)["embeddings"]
        return vectors

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and wait until it has gone."""
        self.process.terminate()
        self.process.wait()
