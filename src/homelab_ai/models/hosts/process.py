"""A model host, seen from inside: loads one engine and answers runs until the service goes away.

Started by `models.hosts.host` as `python -m homelab_ai.models.hosts.process FD`. FD is its end of a socket pair. The
first frame names the engine; the answer is as many `loading` as it takes, then `ready` or `failed`; then each run gets
one `result` or `error` that bears its number. An engine that says so is given several runs at a time, each by a thread
of its own.

Whatever happens to the service, `kill -9` included, no host outlives it: a thread of its own reads the socket and so
notices its end in the middle of a run too, and on Linux the kernel sees to it where a library holds the interpreter.
"""

import contextlib
import ctypes
import importlib
import os
import queue
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homelab_ai.models.hosts import wire
from homelab_ai.models.hosts.engine import Engine, LoadError

Progress = Mapping[str, Any]

_PR_SET_PDEATHSIG = 1
_SIGN_OF_LIFE_SECONDS = 0.5
_IDLE_SECONDS = 1.0
"""Without a run, after which what the last ones needed is given back."""
_SOURCE = Path(__file__).parents[4]


def main() -> None:
    """Run the host on the file descriptor named by the first argument."""
    # Ctrl-C in the service's terminal is the service's business: it finishes its requests, then ends its hosts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_parent()
    be_first_to_go_when_memory_ends()
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)  # what a library starts must not keep it open
    inbox: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox), name="channel", daemon=True).start()
    load, _ = inbox.get()
    engine = _load_engine(channel, load)
    work = _Work(channel, inbox, engine)
    for number in range(1, engine.describe().get("runs_at_once", 1)):
        threading.Thread(target=work.go_on, name=f"runs {number}", daemon=True).start()
    work.go_on()


def _listen(channel: socket.socket, inbox: "queue.SimpleQueue[wire.Frame]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(wire.receive(channel))
    # The service has closed its end, on purpose or by dying. Nothing here is worth a clean exit, and a run in the
    # main thread could hold one up for seconds.
    os._exit(0)


def _load_engine(channel: socket.socket, load: wire.Header) -> Engine:
    signs_of_life = _SignsOfLife(channel)
    try:
        engine: Engine = importlib.import_module(load["engine"]).load(load["options"], signs_of_life.report)
        described = engine.describe()
    except BaseException as error:  # noqa: BLE001 - whatever it was, the service is to know before this process ends
        signs_of_life.end()
        expected = isinstance(error, LoadError)
        reason = str(error) if expected else f"{type(error).__name__}: {_without_paths(str(error), load['options'])}"
        trace = "" if expected else traceback.format_exc()
        wire.send(channel, {"type": "failed", "reason": reason, "traceback": trace})
        sys.exit(1)
    signs_of_life.end()
    wire.send(channel, {"type": "ready", "engine": described})
    return engine


class _SignsOfLife:
    """Tells the service that this process is at work, and how far: a load may take long, a download above all."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loaded = threading.Event()
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._thread = threading.Thread(target=self._give, name="signs of life", daemon=True)
        self._thread.start()

    def report(self, progress: Progress) -> None:
        """Have the next sign of life say this."""
        self._progress = dict(progress)

    def end(self) -> None:
        """Give none any more, but let the service know of what was reported last."""
        self._loaded.set()
        self._thread.join()
        if self._progress != self._told:
            with contextlib.suppress(OSError):
                self._send()

    def _give(self) -> None:
        with contextlib.suppress(OSError):
            while not self._loaded.wait(_SIGN_OF_LIFE_SECONDS):
                self._send()

    def _send(self) -> None:
        self._told = self._progress
        wire.send(self._channel, {"type": "loading", **({"progress": self._told} if self._told else {})})


class _Work:
    """Takes run after run and answers it, in as many threads as the engine takes runs at a time."""

    def __init__(self, channel: socket.socket, inbox: "queue.SimpleQueue[wire.Frame]", engine: Engine) -> None:
        self._channel = channel
        self._inbox = inbox
        self._engine = engine
        self._writing = threading.Lock()

    def go_on(self) -> None:
        """Work until the process ends, which it does with any of its threads: nobody would answer that one's run."""
        try:
            while True:
                self._do_one()
        except BaseException:  # noqa: BLE001 - a panic of a library in Rust is no `Exception`
            traceback.print_exc()
            sys.stdout.flush()
            os._exit(1)

    def _do_one(self) -> None:
        try:
            header, body = self._inbox.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            _give_memory_back()
            header, body = self._inbox.get()
        answer, payload = self._answer(header["run"], body)
        with self._writing:
            wire.send(self._channel, answer | {"number": header["number"]}, payload)

    def _answer(self, options: dict[str, Any], body: bytes) -> tuple[wire.Header, bytes | memoryview]:
        try:
            result, payload = self._engine.run(options, body)
        except Exception as error:  # noqa: BLE001 - a run must not take the host down, whatever a library raises
            # Where it happened, without the error's own text, which may hold what a user sent.
            trace = "".join(traceback.format_tb(error.__traceback__))
            return {"type": "error", "error_type": type(error).__name__, "traceback": trace}, b""
        return {"type": "result", "result": result}, payload


def _without_paths(text: str, options: dict[str, Any]) -> str:
    """A library's error text for a client: no folder of this machine, and not a whole page."""
    known = [options.get("hf_model"), options.get("models_dir"), os.environ.get("HOME"), sys.prefix, str(_SOURCE)]
    for folder in sorted(filter(None, known), key=len, reverse=True):
        if folder.startswith("/") and len(folder) > 1:
            text = text.replace(folder, "/path")  # it may hold a space, which would end any other path
    text = re.sub(r"""(["'])/[^"'\n]*\1""", "(path)", text)
    return re.sub(r"(?<![\w:/])/[^\s'\",:;)]+", "(path)", text)[:500]


def end_with_the_parent() -> None:
    """Have the kernel end this process when the one that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):  # there is none but on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _give_memory_back() -> None:
    """Have the C library return what it keeps for the next allocation (malloc_trim(3)), which may be a whole run's."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def be_first_to_go_when_memory_ends() -> None:
    """Tell the kernel to take this process rather than the service: it can be replaced."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main()
