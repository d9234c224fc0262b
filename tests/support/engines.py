"""Engines without a model, for tests with real host processes. A host imports this module by its dotted path."""

import ctypes
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from homelab_ai.models.hosts.engine import Engine, LoadError, Report


def load(options: dict[str, Any], report: Report) -> Engine:
    """What to do is told by `options["hf_model"]`."""
    if marker := options.get("marker"):
        Path(marker).touch()
    match options["hf_model"]:
        case "refuses":
            raise LoadError("it does not want to")
        case "raises":
            raise ValueError(f"cannot read {os.path.abspath(__file__)}: no such thing")
        case "dies":
            print("these are my last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "slow":
            time.sleep(30)
        case "reports":
            for step in range(4):
                report({"step": step})
            if options.get("fails"):
                raise LoadError("it got this far")
        case "reports and waits":
            for step in range(2):
                report({"step": step})
                while not Path(f"{options['until']}{step}").exists():
                    time.sleep(0.005)
        case "talks":
            _print(1_000_000)
    return Obedient(options.get("runs_at_once"))


class PanicError(BaseException):
    """What libraries in Rust raise when they panic is no `Exception` either."""


class Obedient:
    """Does what each run says."""

    def __init__(self, runs_at_once: int | None = None) -> None:
        self._labels: list[Any] = []
        self._more = {"runs_at_once": runs_at_once} if runs_at_once else {}

    def describe(self) -> dict[str, Any]:
        return {"backend": "obedient", "pid": os.getpid(), **self._more}

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        self._labels.append(options.get("label"))
        match options:
            case {"do": "sleep", "seconds": seconds, "marker": marker}:
                Path(marker).touch()
                time.sleep(seconds)
            case {"do": "sleep", "seconds": seconds}:
                time.sleep(seconds)
            case {"do": "compute", "marker": marker}:
                Path(marker).touch()
                re.match(r"(a+)+$", "a" * 40 + "b")  # takes hours
            case {"do": "wait", "started": started, "until": path}:
                Path(started).touch()
                while not Path(path).exists():
                    time.sleep(0.005)
            case {"do": "panic beside the main thread"}:
                if threading.current_thread() is threading.main_thread():
                    time.sleep(600)
                raise PanicError
            case {"do": "raise"}:
                raise RuntimeError(f"secret text of a user: {body.decode()}")
            case {"do": "hoard", "megabytes": megabytes}:  # what is freed stays with the C library: the last is on top
                libc = ctypes.CDLL(None)
                libc.malloc.restype = ctypes.c_void_p
                blocks = [ctypes.c_void_p(libc.malloc(100_000)) for _ in range(10 * megabytes)]
                for block in blocks:
                    ctypes.memset(block, 1, 100_000)
                for block in blocks[:-1]:
                    libc.free(block)
            case {"do": "die"}:
                os.kill(os.getpid(), signal.SIGKILL)
            case {"do": "exit"}:
                os._exit(3)
            case {"do": "spawn"}:  # a grandchild that holds the output pipe open
                child = os.fork()
                if not child:
                    time.sleep(600)
                    os._exit(0)
                return {"child": child}, b""
            case {"do": "spawn program"}:  # the same, as a library does it: without the channel
                program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                return {"child": program.pid}, b""
            case {"do": "environment"}:
                return {}, orjson.dumps(dict(os.environ))
            case {"do": "print", "characters": characters}:
                _print(characters)
            case {"do": "try model", "engine": engine, "options": load_options}:
                return _try_model(engine, load_options, body), b""
            case {"do": "labels"}:
                return {"labels": self._labels[:-1]}, b""
        return {"pid": os.getpid()}, body


def _print(characters: int) -> None:
    """Print one long line, as a progress bar does."""
    print("\r\xff" * (characters // 2), file=sys.stderr, flush=True)
    sys.stdout.buffer.write(b"\xff\xfe not UTF-8\n")
    sys.stdout.flush()


def _try_model(engine: str, options: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Load a model with another engine and give it one run: for many models in one process."""
    try:
        model: Engine = importlib.import_module(engine).load(options, lambda progress: None)
        header, answer = model.run({}, body)
    except LoadError as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # noqa: BLE001 - whatever it was is the answer
        return {"raised": f"{type(error).__name__}: {error}"}
    return {"described": model.describe(), "result": header, "bytes": bytes(answer).hex()}
