"""Captions through the whole service, with real processes: what they say, with a small model that can see (`shapes`),
and that they are those of plain transformers, with others of both kinds whose weights are random.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from models.shapes import Scene, caption, draw, scenes
from support import captioners
from support.images import saved
from support.server import Server

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = """
models:
  image_caption:
    - {{id: shapes, hf_model: {shapes}, default: true}}
    - {{id: exact, hf_model: {shapes}, precision: float32}}
    - {{id: small, hf_model: {folder}/blip, precision: float32}}
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
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG.format(folder=folder, shapes=SHAPES)) as server:
        yield server


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def described(client: httpx.Client, pictures: Sequence[bytes], **more: str) -> list[str]:
    """The captions of a batch of at most 64 files, sent as a form."""
    answer = client.post("/api/caption", files=[("image", picture) for picture in pictures], data=more)
    assert answer.status_code == 200, answer.text
    return [item["caption"] for item in answer.json()["captions"]]


def share_right(said: Sequence[str], unseen: Sequence[Scene]) -> float:
    return sum(words == caption(scene) for words, scene in zip(said, unseen, strict=True)) / len(unseen)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {"quality": 80}), ("WEBP", {}), ("HEIF", {})])
def test_what_is_to_be_seen_is_said(server: Server, form: str, options: dict[str, Any]) -> None:
    unseen = list(islice(scenes("unseen by the service"), 60))
    with server.client() as client:
        said = described(client, [saved(draw(scene), form, **options) for scene in unseen])
    assert share_right(said, unseen) >= 0.95, said


@pytest.mark.parametrize("color", ["red", "green", "blue", "yellow", "orange", "black"])
def test_what_anybody_would_draw_is_known(server: Server, color: str) -> None:
    """In Pillow's own colours and shapes, on backgrounds of its own names, sent in each of the three ways."""
    shapes: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
        "circle": lambda pen: pen.ellipse((110, 70, 210, 170), fill=color),
        "square": lambda pen: pen.rectangle((110, 70, 210, 170), fill=color),
        "triangle": lambda pen: pen.polygon([(160, 60), (100, 170), (220, 170)], fill=color),
    }
    with server.client() as client:
        for shape, paint in shapes.items():
            for background in ("white", "lightgray"):
                image = Image.new("RGB", (320, 240), background)
                paint(ImageDraw.Draw(image))
                png, jpeg = saved(image, "PNG"), saved(image, "JPEG", quality=90)
                in_base64 = base64.b64encode(jpeg).decode()
                for answer in (
                    client.post("/api/caption", files={"image": ("drawing.png", png, "image/png")}),
                    client.post("/api/caption", files={"image": ("drawing.jpg", jpeg, "image/jpeg")}),
                    client.post("/api/caption", json={"image": in_base64}),
                    client.post("/api/caption", json={"image": f"data:image/jpeg;base64,{in_base64}"}),
                ):
                    found = answer.json()
                    assert found.keys() == {"request_id", "caption", "model_used", "processing_time_ms"}
                    assert f" {color} {shape} in the center on a light background" in found["caption"]


def test_half_the_precision_says_the_same(server: Server) -> None:
    unseen = list(islice(scenes("in either precision"), 64))
    pictures = [saved(draw(scene), "PNG") for scene in unseen]
    with server.client() as client:
        fast, exact = (described(client, pictures, model=model) for model in ("shapes", "exact"))
        assert client.get("/api/models/exact").json()["precision"] == "float32"
    assert share_right(exact, unseen) >= 0.95
    assert sum(one == other for one, other in zip(fast, exact, strict=True)) >= 63


def test_many_at_once_each_have_their_own(server: Server) -> None:
    unseen = list(islice(scenes("at once"), 48))
    pictures = [saved(draw(scene), "PNG") for scene in unseen]

    def ask(picture: bytes) -> str:
        said: str = client.post("/api/caption", files={"image": picture}).json()["caption"]
        return said

    with server.client() as client, ThreadPoolExecutor(16) as pool:
        alone = described(client, pictures)
        assert list(pool.map(ask, pictures)) == alone


def test_beams_and_a_limit_of_tokens_are_heard(server: Server) -> None:
    scene = next(scenes("beams"))
    with server.client() as client:
        picture = saved(draw(scene), "PNG")
        short = client.post("/api/caption", files={"image": picture}, data={"max_new_tokens": "3"}).json()["caption"]
        assert short == " ".join(caption(scene).split()[:3])
        wide = client.post("/api/caption", files={"image": picture}, data={"num_beams": "4"}).json()["caption"]
        assert wide == caption(scene)


@pytest.mark.timeout(150)
def test_captions_are_those_of_plain_transformers(server: Server, folder: Path) -> None:
    expected = captioners.captions(folder / "blip", *images(folder))
    with server.client() as client:
        files = [("image", (path.name, path.read_bytes(), "image/png")) for path in images(folder)]
        answer = client.post("/api/caption", files=files, data={"model": "small", "max_new_tokens": "12"}).json()
        assert [item["caption"] for item in answer["captions"]] == expected
        encoded = base64.b64encode(images(folder)[0].read_bytes()).decode()
        one = client.post("/api/caption", json={"image": encoded, "model": "small", "max_new_tokens": 12}).json()
        assert (one["caption"], one["model_used"]) == (expected[0], "small")
        shown = client.get("/api/models/small").json()
        assert (shown["state"], shown["promptable"], shown["precision"]) == ("ready", False, "float32")

        refused = client.post("/api/caption", json={"image": encoded, "model": "small", "prompt": "what is it?"})
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
