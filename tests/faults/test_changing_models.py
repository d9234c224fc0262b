"""Models added and removed at run time, with real processes and real models: served at once, kept, and gone."""

import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.reference import HUB_NAME, MINILM, TEXTS, cosines, vectors_of_texts
from support.server import Server, wait_for

DIMENSIONS = 48


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as sentence-transformers saves it: MiniLM, and a layer that makes its vectors shorter."""
    folder = tmp_path_factory.mktemp("root") / "narrow"
    shutil.copytree(MINILM, folder)
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": len(modules), "name": "last", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    (folder / "9_Dense").mkdir()
    layer = {"in_features": 384, "out_features": DIMENSIONS, "bias": False}
    layer["activation_function"] = "torch.nn.modules.linear.Identity"  # type: ignore[assignment]
    (folder / "9_Dense" / "config.json").write_text(json.dumps(layer))
    save_file({"linear.weight": matrix()}, folder / "9_Dense" / "model.safetensors")
    yield folder
    shutil.rmtree(folder)


def matrix() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(7).standard_normal((DIMENSIONS, 384), dtype=np.float32)


def config(root: Path) -> str:
    return f"resources: {{local_model_roots: [{root}]}}\nsecurity: {{allow_localhost: true}}\n"


def embed(server: Server, texts: list[str], **model: str) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post("/api/embed", json={"texts": texts, **model})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.timeout(120)
def test_a_local_folder_is_added_served_kept_made_the_default_and_removed(tmp_path: Path, narrow: Path) -> None:
    texts, expected = TEXTS[6:9], vectors_of_texts()[6:9] @ matrix().T
    added = {"type": "text_embedding", "id": "narrow", "hf_model": str(narrow)}
    with Server(tmp_path, config=config(narrow.parent)) as server, server.client() as client:
        answer = client.post("/api/models", json=added)
        assert (answer.status_code, answer.json()["hf_model"]) == (201, "narrow")
        found = embed(server, texts, model="narrow")
        assert (found["dimensions"], found["model_used"]) == (DIMENSIONS, "narrow")
        assert cosines(found["embeddings"], expected).min() > 0.9999
        assert client.get("/api/models/narrow").json()["dimensions"] == DIMENSIONS

        server.process.send_signal(signal.SIGKILL)  # nothing is lost that was answered
        server.process.wait()
    with Server(tmp_path, config=config(narrow.parent)) as server, server.client() as client:
        assert embed(server, texts, model="narrow")["dimensions"] == DIMENSIONS
        assert client.patch("/api/models/narrow", json={"default": True}).json()["default"] is True
        assert embed(server, texts)["model_used"] == "narrow"
        (host,) = server.hosts()

        assert client.delete("/api/models/narrow").status_code == 200
        assert not host.is_running()
        assert client.get("/api/models/narrow").json()["error"]["code"] == "MODEL_NOT_FOUND"
        assert embed(server, texts)["model_used"] == "minilm"
        assert (narrow / "modules.json").exists()
    with Server(tmp_path, config=config(narrow.parent)) as server, server.client() as client:
        assert client.get("/api/models/narrow").status_code == 404


@pytest.mark.timeout(120)
def test_a_model_removed_while_it_is_loaded_leaves_no_process(tmp_path: Path) -> None:
    with Server(tmp_path, config=config(tmp_path)) as server, server.client() as client, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(client.post, "/api/embed", json={"texts": ["a"]}) for _ in range(3)]
        wait_for(server.hosts)
        (host,) = server.hosts()
        assert client.delete("/api/models/minilm").status_code == 200
        assert not host.is_running()
        for each in asking:
            answer = each.result()
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
        added = {"type": "text_embedding", "id": "minilm", "hf_model": HUB_NAME}
        assert client.post("/api/models", json=added).status_code == 201
        assert embed(server, ["a"])["dimensions"] == 384
        assert len(server.hosts()) == 1


@pytest.mark.timeout(120)
def test_a_model_removed_under_load_answers_what_it_had_begun(tmp_path: Path) -> None:
    with Server(tmp_path, config=config(tmp_path)) as server, server.client() as client, ThreadPoolExecutor(6) as pool:
        embed(server, ["a"])
        texts = ["some words to read here " * 20] * 40
        asking = [pool.submit(client.post, "/api/embed", json={"texts": texts}) for _ in range(5)]
        wait_for(lambda: client.get("/api/models/minilm").json()["active_requests"] == 5)
        assert client.delete("/api/models/minilm").status_code == 200
        assert server.hosts() == []
        assert [len(each.result().json()["embeddings"]) for each in asking] == [40] * 5
