"""A service on loopback that says what a test has it say, for what a real one does not do when it is asked to."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson

from support.answering import Handler, answering

DIMENSIONS = 384

Said = tuple[int, dict[str, str], bytes]
"""Status, headers and body of an answer."""


def vector_of(text: str) -> list[float]:
    """What the scripted model makes of a text: another for each, and exact in float32."""
    return [float(len(text)), *(float(byte) for byte in text.encode()[-8:].rjust(8)), *[0.5] * (DIMENSIONS - 9)]


def vectors(texts: list[str], fingerprint: str = "f1", model: str = "scripted") -> Said:
    """The answer of `POST /api/embed` to these."""
    matrix = np.array([vector_of(text) for text in texts], dtype=np.float32)
    answer = {"request_id": "1", "embeddings": matrix, "dimensions": DIMENSIONS, "model_used": model}
    content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return 200, {"X-Embedding-Fingerprint": fingerprint}, content


def refusal(status: int, code: str, message: str, **headers: str) -> Said:
    """An error as the service says it."""
    error = {"code": code, "message": message, "request_id": "1", "details": {}}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps({"error": error})


class Scripted:
    """What was asked, and where it listens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.priorities: set[str] = set()
        self.asked: list[dict[str, Any]] = []


@contextlib.contextmanager
def scripted(say: Callable[[int, list[str]], Said | None]) -> Iterator[Scripted]:
    """Answer each request, by its number and its texts; None: hang up without a word."""

    class Service(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.body())
            with lock:
                service.asked.append(body)
                service.priorities.add(self.headers["Priority"])
                number = len(service.asked)
            said = say(number, body["texts"])
            if said is None:
                self.close_connection = True
                return
            status, headers, content = said
            self.answer(content, "application/json", status=status, headers=headers)

    lock = threading.Lock()
    with answering(Service) as url:
        service = Scripted(url)
        yield service
