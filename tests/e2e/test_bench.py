"""`homelab-ai bench`: real figures of a real service, and words for what stands in its way."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server import Server, free_port

SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
CONFIG = f"""
models: {{image_caption: [{{id: shapes, hf_model: {SHAPES}}}, {{id: gone, hf_model: org/nothing}}]}}
security: {{allow_localhost: true}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG) as server:
        yield server


def bench(url: str, *arguments: str, key: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AI")}
    if key:
        environment["HOMELAB_AI_API_KEY"] = key
    return subprocess.run(
        [sys.executable, "-m", "homelab_ai", "bench", "--seconds", "0.2", *arguments],
        env=environment | {"HOMELAB_AI_URL": url, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.timeout(150)
def test_every_figure_is_measured(server: Server) -> None:
    done = bench(server.url, "minilm", "shapes", "--json", "--cold")
    assert done.returncode == 0, done.stderr
    found = {model["id"]: model for model in json.loads(done.stdout)["models"]}
    assert found.keys() == {"minilm", "shapes"}
    for model, what in (("minilm", "32 texts of 5 to 150 words"), ("shapes", "one image")):
        assert found[model]["backend"] == "openvino"
        assert found[model]["memory_bytes"] > 10_000_000
        figures = {figure["what"]: figure for figure in found[model]["figures"]}
        assert what in figures
        for figure in figures.values():
            assert 0 < figure["median_seconds"] <= figure["p95_seconds"] < 60
            assert figure["per_second"] > 0
        cold = figures.pop("the first answer, when it was not loaded")
        warm = figures["one short text" if model == "minilm" else "one image"]
        assert cold["median_seconds"] > warm["median_seconds"], "it was loaded"

    done = bench(server.url)
    assert done.returncode == 0, done.stderr
    assert "minilm  openvino, " in done.stdout
    assert "texts a second" in done.stdout
    assert "images a second" in done.stdout


def test_what_stands_in_the_way_is_said(server: Server, tmp_path: Path) -> None:
    done = bench(server.url, "minilm", "nonsense")
    assert (done.returncode, done.stderr) == (
        3,
        "There is no model 'nonsense' here; there are shapes, gone, minilm, mpnet\n",
    )
    done = bench(server.url, "gone")
    assert done.returncode == 1
    assert "Model 'gone' could not be loaded: org/nothing is not on this machine" in done.stderr
    port = free_port()
    done = bench(f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "No service answers at http://127.0.0.1" in done.stderr
    assert "HOMELAB_AI_URL" in done.stderr

    with Server(tmp_path, environment={}) as closed:
        done = bench(closed.url)
        assert done.returncode == 1
        assert "Set HOMELAB_AI_API_KEY to a key of this service" in done.stderr
        (key,) = set(re.findall(r"Bearer ([^\s\"]+)", closed.stderr))
        done = bench(closed.url, key=key)
        assert (done.returncode, done.stderr.split(";")[0]) == (
            2,
            "No model has been loaded since the service started",
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "is another service: GET /api/models was answered 404"),
        ({"data": []}, "is another service: GET /api/models was answered with something else"),
        ([1], "is another service"),
        ("text", "is another service"),
    ],
)
def test_what_is_no_homelab_ai_service_is_told_apart(tmp_path: Path, answer: object, said: str) -> None:
    if answer is not None:
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "models").write_text(json.dumps(answer))
    other = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port := free_port())],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(50):
            done = bench(f"http://127.0.0.1:{port}")
            if "No service answers" not in done.stderr:
                break
        assert done.returncode == 1
        assert said in done.stderr
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("key", ["two words", "geheim\nX-Other: 1", "schlüssel"])
def test_what_is_no_key_is_not_sent_and_not_shown(server: Server, key: str) -> None:
    done = bench(server.url, key=key)
    assert done.returncode == 1
    assert "HOMELAB_AI_API_KEY holds is no key" in done.stderr
    assert key.split(maxsplit=1)[0] not in done.stderr


def test_names_of_models_are_taken_as_they_are(server: Server) -> None:
    done = bench(server.url, "[/x]")
    assert done.returncode == 3
    assert "There is no model '[/x]' here" in done.stderr


def test_a_key_from_a_file_may_end_with_its_line(server: Server) -> None:
    done = bench(server.url, key="one-that-is-not-known\n")
    assert done.returncode == 1
    assert "Set HOMELAB_AI_API_KEY to a key of this service" in done.stderr
