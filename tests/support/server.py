"""The service in a process of its own, on loopback, as a user runs it."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import pytest

from support import exports

REPOSITORY = Path(__file__).parents[2]

KEYLESS = {"HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}


def free_port() -> int:
    """A port that nobody listens on, and none of those that connections are given, which other tests make meanwhile."""
    while True:
        port = 11_000 + secrets.randbelow(20_000)  # Linux takes those of connections from 32768 on
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """`homelab-ai serve` or `uvicorn main:app` with a data folder of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        environment: dict[str, str] = KEYLESS,
        command: Sequence[str] = ("-m", "homelab_ai", "serve"),
        config: str | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        exports.lend(folder / "models")
        if config is not None:
            (folder / "config.yaml").write_text(config)
        self._stdout, self._stderr = folder / "stdout.log", folder / "stderr.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AI")}
        if path := inherited.get("PYTHONPATH"):  # may be relative to this folder; the server runs in another
            inherited["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in path.split(os.pathsep))
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--port", str(self.port)],
                cwd=folder,
                env=inherited | {"HF_HUB_OFFLINE": "1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def wait_until_ready(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.stderr}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"not ready after {seconds} s:\n{self.stderr}")

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)  # type: ignore[arg-type]

    def hosts(self) -> list[psutil.Process]:
        """The model hosts that run now. What one of them starts looks like another until it is another program."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [
                child
                for child in psutil.Process(self.process.pid).children()
                if "homelab_ai.models.hosts.process" in _command_line(child)
            ]
        return []

    def wait_until_ended(self, seconds: float = 20) -> int:
        """Wait until it ends by itself and return its exit status. Fails, and ends it, when it does not."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {seconds} s:\n{self.stderr}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """`kill -9`, if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, signal_number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Stop the server and return its exit status. Fails if it leaves a process behind."""
        hosts = self.hosts()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            status = self.process.wait(seconds)
        finally:
            self.kill()
        _, left = psutil.wait_procs(hosts, timeout=10)
        for process in left:
            process.kill()
        assert not left, f"the server left processes behind: {left}"
        return status


def assert_goes_first_when_memory_ends(pid: int) -> None:
    """The kernel is to take this process before the service."""
    score = Path(f"/proc/{pid}/oom_score_adj")
    try:
        score.write_text(score.read_text())
    except OSError as error:
        pytest.skip(f"/proc does not let this user set it: {error}")
    assert score.read_text().strip() == "500"


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until the condition holds; fail when it does not within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
