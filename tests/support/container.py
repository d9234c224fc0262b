"""Containers of the image, by whatever command is said to be docker: `CONTAINER_ENGINE`."""

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from support.server import REPOSITORY, free_port

USER = os.getuid() or 4242
"""Who the service runs as: somebody who may write to what the tests have made."""


class Engine:
    """docker, podman, or what takes their arguments."""

    def __init__(self, command: str) -> None:
        # A path is relative to the repository, as it is to `make`; a name is looked for where names are.
        self._command = str((REPOSITORY / command).resolve()) if os.sep in command else command

    def why_not(self) -> str | None:
        """Return why it can start no container; None if it can."""
        try:
            done = self.run("version", check=False)
        except OSError as error:
            return f"{self._command}: {error.strerror}"
        return f"{self._command} version: {done.stderr.strip()[-200:]}" if done.returncode else None

    def run(self, *arguments: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [self._command, *map(str, arguments)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not (check and done.returncode), f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(kind, "inspect", name).stdout)[0]
        return found


class Container:
    """A running container, with its port 8000 published on loopback; it is removed with its volumes at the end."""

    def __init__(self, engine: Engine, image: str, *options: str, command: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self.port = free_port()  # the same after a restart, which one that the engine chooses is not
        published = ("--publish", f"127.0.0.1:{self.port}:8000")
        self.seconds_to_ready: float | None = None
        self._begun = time.monotonic()
        self.id = engine.run("run", "--detach", *published, *options, image, *command).stdout.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.run("rm", "--force", "--volumes", self.id)

    @property
    def logs(self) -> str:
        done = self.engine.run("logs", self.id)
        return done.stdout + done.stderr

    @property
    def memory_bytes(self) -> int:
        """What its processes hold and share; not the files that the kernel has read and may forget."""
        first, second = "grep -E '^total_(rss|shmem) ' memory/memory.stat", "grep -E '^(anon|shmem) ' memory.stat"
        looked = self.exec("sh", "-c", f"cd /sys/fs/cgroup; {first} || {second}")  # the version of cgroups
        return sum(int(line.split()[1]) for line in looked.stdout.splitlines())

    def exec(
        self, *command: str, check: bool = True, environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as whom the service runs as: a container that has started as root would take root."""
        given = [part for name, value in (environment or {}).items() for part in ("--env", f"{name}={value}")]
        return self.engine.run("exec", "--user", f"{USER}:{USER}", *given, self.id, *command, check=check)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=180, trust_env=False, **options)

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/ready").status_code == 200:
                        self.seconds_to_ready = self.seconds_to_ready or time.monotonic() - self._begun
                        return
                time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s:\n{self.logs}")
