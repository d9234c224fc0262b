"""Captions through the whole service, with real processes and small models of both kinds (their weights are random)."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from support import captioners
from support.server import Server

CONFIG = """
models:
  image_caption:
    - {{id: small, hf_model: {folder}/blip, precision: float32, default: true}}
    - {{id: asks, hf_model: {folder}/llava, precision: float32}}
security: {{allow_localhost: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    captioners.make(folder)
    for number, colour in enumerate(("red", "blue", "green")):
        image = Image.new("RGB", (90 + 60 * number, 120), "white")
        ImageDraw.Draw(image).ellipse((10, 10 + 20 * number, 80, 100), fill=colour)
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG.format(folder=folder)) as server:
        yield server


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.mark.timeout(150)
def test_captions_are_those_of_plain_transformers(server: Server, folder: Path) -> None:
    expected = captioners.captions(folder / "blip", *images(folder))
    with server.client() as client:
        files = [("image", (path.name, path.read_bytes(), "image/png")) for path in images(folder)]
        answer = client.post("/api/caption", files=files, data={"max_new_tokens": "12"}).json()
        assert [item["caption"] for item in answer["captions"]] == expected
        encoded = base64.b64encode(images(folder)[0].read_bytes()).decode()
        one = client.post("/api/caption", json={"image": encoded, "max_new_tokens": 12}).json()
        assert (one["caption"], one["model_used"]) == (expected[0], "small")
        shown = client.get("/api/models/small").json()
        assert (shown["state"], shown["promptable"], shown["precision"]) == ("ready", False, "float32")

        refused = client.post("/api/caption", json={"image": encoded, "prompt": "what is it?"})
        assert (refused.status_code, refused.json()["error"]["details"]["errors"][0]["field"]) == (400, "prompt")


@pytest.mark.timeout(150)
def test_a_promptable_model_follows_the_prompt(server: Server, folder: Path) -> None:
    encoded = base64.b64encode(images(folder)[0].read_bytes()).decode()
    with server.client() as client, ThreadPoolExecutor(4) as pool:

        def ask(**more: Any) -> str:
            body = {"image": encoded, "model": "asks", "max_new_tokens": 8, **more}
            answer = client.post("/api/caption", json=body)
            assert answer.status_code == 200, answer.text
            caption: str = answer.json()["caption"]
            return caption

        prompts = ["word1 word2", "word3", "word4 word5 word6"]
        first = [ask(prompt=prompt) for prompt in prompts]
        assert len(set(first)) == 3, "it hears what is asked"
        assert list(pool.map(lambda prompt: ask(prompt=prompt), prompts)) == first
        assert ask()
        assert client.get("/api/models/asks").json()["promptable"] is True


@pytest.mark.timeout(60)
def test_without_the_model_and_the_network_the_remedy_is_told(tmp_path: Path, folder: Path) -> None:
    encoded = base64.b64encode(images(folder)[0].read_bytes()).decode()
    environment = {"HOMELAB_AI__SECURITY__ALLOW_LOCALHOST": "true"}
    with Server(tmp_path, environment=environment) as server, server.client() as client:
        answer = client.post("/api/caption", json={"image": encoded})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "MODEL_LOAD_FAILED")
        assert (
            "put its files into the folder Salesforce/blip-image-captioning-base inside the models" in error["message"]
        )
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
