"""A day in a home, for Locust: short questions, photos and web pages, and somebody's notes being indexed meanwhile.

`python -m benchmarks.day` runs it with more and more clients; `locust -f benchmarks/locustfile.py --host URL` by hand,
with Locust's own page. PAGES names the web pages, divided by blanks; without them none is read.
"""

import os
import random
from base64 import b64encode
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import numpy as np
from locust import FastHttpUser, constant, task
from PIL import Image

SHORT, LIST, IMAGE = "a short text", "32 texts of 5 to 150 words, which can wait", "an image, 16 words"
PLAIN, RENDERED = "a web page over plain HTTP", "a web page shown by the browser"
"""What is asked for, by the names that Locust gives in its statistics."""

_PAGES = os.environ.get("PAGES", "").split()
_WORDS = Path("LICENSE").read_text().split()
_DICE = np.random.default_rng(4)


def _picture() -> str:
    file = BytesIO()
    Image.fromarray(_DICE.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(file, "JPEG", quality=90)
    return b64encode(file.getvalue()).decode()


_PICTURES = [_picture() for _ in range(20)]


class Home(FastHttpUser):
    """One client, which asks again as soon as it has its answer."""

    wait_time = constant(0)

    @task(20)
    def short(self) -> None:
        """A voice command, or a search."""
        self._ask(SHORT, "/api/embed", {"texts": [_words(9)]})

    @task(3)
    def list(self) -> None:
        """Part of an index, by a program that says that it can wait."""
        texts = [_words(random.randint(5, 150)) for _ in range(32)]
        self._ask(LIST, "/api/embed", {"texts": texts}, {"Priority": "u=5"})

    @task(1)
    def image(self) -> None:
        """A photo that has just been taken."""
        self._ask(IMAGE, "/api/caption", {"image": random.choice(_PICTURES), "max_new_tokens": 16})

    @task(2 if _PAGES else 0)
    def plain(self) -> None:
        """A bookmark that is kept."""
        self._ask(PLAIN, "/api/crawl", {"url": random.choice(_PAGES), "formats": ["markdown"]})

    @task(1 if _PAGES else 0)
    def rendered(self) -> None:
        """A page that says nothing without its scripts."""
        self._ask(RENDERED, "/api/crawl", {"url": random.choice(_PAGES), "wait_for_js": True})

    def _ask(self, name: str, path: str, body: object, headers: dict[str, str] | None = None) -> None:
        with self.client.post(path, json=body, headers=headers, name=name, catch_response=True) as response:
            if response.status_code != HTTPStatus.OK:
                response.failure(f"{response.status_code}: {response.text[:200]}")


def _words(count: int) -> str:
    return " ".join(random.choices(_WORDS, k=count))
