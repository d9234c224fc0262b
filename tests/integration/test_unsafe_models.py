"""Model folders that somebody else has made: what is safe is served, and nothing in them is ever run."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homelab_ai.embedding.service import ENGINE
from homelab_ai.models.hosts.host import Host, HostPlan
from support import embedders
from support.reference import cosines
from support.server import Server

pytestmark = pytest.mark.anyio

TEXTS = ["one two three", "", "two " * 100]

BUILDER = """
import json, sys
import numpy, torch
from pathlib import Path
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer

folder, marker, texts = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
torch.manual_seed(1)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.Lowercase()
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=64, max_position_embeddings=64)
bert = BertModel(config)
bert.save_pretrained(folder / "bert")
BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "bert")
transformer = Transformer(str(folder / "bert"))
model = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
model.save(str(folder / "safe"))
numpy.save(folder / "safe.npy", model.encode(texts))
SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(str(folder / "static"))
torch.save(bert.state_dict(), folder / "state.bin")

class Bomb:
    def __reduce__(self):
        return open, (marker, "w")

torch.save({**bert.state_dict(), "bomb": Bomb()}, folder / "bomb.bin")
"""


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that the tests copy and spoil."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run(
        [sys.executable, "-c", BUILDER, str(folder), str(folder / "marker"), json.dumps(TEXTS)], check=True, timeout=50
    )
    return folder


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    """One process that tries all these models, so that torch is imported once."""
    host = await Host.start(HostPlan("tries", "support.engines", {"hf_model": "obedient"}, 50))
    yield host
    await host.stop()


@pytest.fixture
def marker(made: Path) -> Path:
    """The file that appears when code of a model runs."""
    marker = made / "marker"
    marker.unlink(missing_ok=True)
    return marker


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the safe model, for the test to spoil."""
    return shutil.copytree(made / "safe", tmp_path / "model")


async def attempt(host: Host, folder: Path, **options: Any) -> dict[str, Any]:
    """Load the model in that folder and embed `TEXTS`: on torch, which exports load models with, too."""
    settings = embedders.options(folder, folder.parent / "models", **{"device": "cpu", "backend": "torch", **options})
    run = {"do": "try model", "engine": ENGINE, "options": settings}
    return (await host.run(run, json.dumps(TEXTS).encode())).header


def vectors(answer: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert "bytes" in answer, answer
    return np.frombuffer(bytes.fromhex(answer["bytes"]), dtype=np.float32).reshape(answer["result"]["shape"])


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))


def hostile_module(path: Path, marker: Path) -> None:
    """Python code that leaves the marker when it is imported."""
    path.write_text(
        f"open({str(marker)!r}, 'w')\n"
        "from transformers import BertConfig, BertModel\n"
        "class Hostile(BertModel):\n    pass\n"
        "class HostileConfig(BertConfig):\n    pass\n"
    )


def assert_refused(answer: dict[str, Any], marker: Path) -> None:
    assert not marker.exists(), "the code in the model has run"
    assert "bytes" not in answer, "it was served"


async def test_a_folder_with_safetensors_is_served(host: Host, made: Path, folder: Path) -> None:
    answer = await attempt(host, folder, dimensions=32)

    assert answer["described"]["dimensions"] == 32
    assert answer["described"]["max_length"] == 64
    assert answer["result"]["truncated"] == [2]
    assert cosines(vectors(answer), np.load(made / "safe.npy")).min() >= 0.9999


async def test_the_prompt_that_a_model_puts_before_each_text_counts(host: Host, folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", prompts={"query": "one " * 70}, default_prompt_name="query")

    assert (await attempt(host, folder))["result"]["truncated"] == [0, 1, 2]


async def test_a_static_embedding_model_is_served(host: Host, made: Path, marker: Path) -> None:
    answer = await attempt(host, made / "static", dimensions=16)

    assert answer["described"]["dimensions"] == 16
    assert answer["described"]["max_length"] is None
    assert answer["result"]["truncated"] == []
    assert vectors(answer).shape == (3, 16)


async def test_a_plain_checkpoint_without_safetensors_is_served(host: Host, made: Path, folder: Path) -> None:
    expected = vectors(await attempt(host, folder))
    (folder / "model.safetensors").unlink()
    shutil.copy(made / "state.bin", folder / "pytorch_model.bin")

    assert np.allclose(vectors(await attempt(host, folder)), expected, atol=1e-5)


def test_the_bombs_of_these_tests_are_real(tmp_path: Path) -> None:
    """Else the tests below prove nothing."""
    marker = tmp_path / "marker"
    with pytest.warns(ResourceWarning, match="unclosed file"):
        pickle.loads(pickle.dumps(Bomb(marker)))

    assert marker.exists()


@pytest.mark.parametrize("container", ["torch", "plain pickle"])
@pytest.mark.parametrize(
    "persuasion",
    [
        {},
        {"model_args": {"weights_only": False, "trust_remote_code": True}},
        {"model_kwargs": {"weights_only": False, "trust_remote_code": True, "use_safetensors": False}},
    ],
    ids=["alone", "model_args", "model_kwargs"],
)
async def test_a_pickle_that_carries_code_is_refused(
    host: Host, made: Path, folder: Path, marker: Path, container: str, persuasion: dict[str, Any]
) -> None:
    (folder / "model.safetensors").unlink()
    if container == "torch":
        shutil.copy(made / "bomb.bin", folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    edit(folder / "sentence_bert_config.json", **persuasion)

    assert_refused(await attempt(host, folder), marker)


async def test_a_pickle_beside_safetensors_is_not_read(host: Host, made: Path, folder: Path, marker: Path) -> None:
    shutil.copy(made / "bomb.bin", folder / "pytorch_model.bin")
    edit(
        folder / "sentence_bert_config.json",
        model_args={"weights_only": False, "trust_remote_code": True, "use_safetensors": False},
    )

    await attempt(host, folder)

    assert not marker.exists()


async def test_a_pickle_in_a_later_module_is_refused(host: Host, made: Path, folder: Path, marker: Path) -> None:
    dense = folder / "2_Dense"
    dense.mkdir()
    edit(
        dense / "config.json",
        in_features=32,
        out_features=8,
        bias=True,
        activation_function="torch.nn.modules.activation.Tanh",
    )
    shutil.copy(made / "bomb.bin", dense / "pytorch_model.bin")
    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.sentence_transformer.modules.Dense"
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    for modules[-1]["type"] in ("sentence_transformers.models.Dense", kind, "sentence_transformers.base.modules.Dense"):
        (folder / "modules.json").write_text(json.dumps(modules))
        assert_refused(await attempt(host, folder), marker)


@pytest.mark.parametrize("name", ["pytorch_model.pt", "model.pkl", "weights.ckpt"])
async def test_other_pickles_are_refused_by_name(host: Host, made: Path, folder: Path, marker: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    shutil.copy(made / "bomb.bin", folder / name)

    answer = await attempt(host, folder)

    assert_refused(answer, marker)
    assert name in answer["refused"]
    assert str(folder) not in answer["refused"]


@pytest.mark.parametrize(
    "type_",
    [
        "hostile.Hostile",
        "model.hostile.Hostile",
        "subprocess.Popen",
        "support.hostile.Hostile",
        "sentence_transformers.base.model.pickle",
        "sentence_transformers.util.misc.importlib",
    ],
)
async def test_a_module_class_from_elsewhere_is_refused(host: Host, folder: Path, marker: Path, type_: str) -> None:
    hostile_module(folder / "hostile.py", marker)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = type_
    (folder / "modules.json").write_text(json.dumps(modules))
    edit(folder / "sentence_bert_config.json", model_args={"trust_remote_code": True}, trust_remote_code=True)
    edit(folder / "config_sentence_transformers.json", trust_remote_code=True)

    assert_refused(await attempt(host, folder), marker)


@pytest.mark.parametrize("persuasion", ["model_args", "config_args", "processor_kwargs", "tokenizer_args", None])
@pytest.mark.parametrize("model_type", ["bert", "hostile"])
async def test_code_of_a_model_that_its_config_names_is_not_run(
    host: Host, folder: Path, marker: Path, persuasion: str | None, model_type: str
) -> None:
    hostile_module(folder / "hostile.py", marker)
    code = {"AutoConfig": "hostile.HostileConfig", "AutoModel": "hostile.Hostile", "AutoTokenizer": ["hostile.X", None]}
    edit(folder / "config.json", auto_map=code, model_type=model_type)
    edit(folder / "tokenizer_config.json", auto_map=code, tokenizer_class="X")
    edit(folder / "processor_config.json", auto_map={"AutoProcessor": "hostile.Hostile"}, processor_class="Hostile")
    if persuasion:
        edit(folder / "sentence_bert_config.json", **{persuasion: {"trust_remote_code": True}})

    await attempt(host, folder)

    assert not marker.exists()


async def test_code_of_a_model_is_not_run_for_its_export_either(host: Host, folder: Path, marker: Path) -> None:
    hostile_module(folder / "hostile.py", marker)
    code = {"AutoConfig": "hostile.HostileConfig", "AutoModel": "hostile.Hostile"}
    edit(folder / "config.json", auto_map=code)
    edit(folder / "sentence_bert_config.json", model_args={"trust_remote_code": True})

    answer = await attempt(host, folder, backend="auto")

    assert answer["described"]["backend"] == "openvino"
    assert not marker.exists()


async def test_a_refusal_reaches_the_client_with_its_reason_and_without_paths(
    made: Path, folder: Path, marker: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").unlink()
    shutil.copy(made / "bomb.bin", folder / "pytorch_model.bin")
    config = f"models: {{text_embedding: [{{id: foreign, hf_model: {folder}}}]}}"
    with Server(tmp_path / "server", config=config) as server, server.client() as client:
        answer = client.post("/api/embed", json={"texts": ["a"]})
        shown = client.get("/api/models/foreign").json()

    error = answer.json()["error"]
    assert answer.status_code == 503
    assert error["code"] == "MODEL_LOAD_FAILED"
    assert error["details"] == {"model_id": "foreign"}
    assert "weights" in error["message"].lower()
    assert shown["state"] == "failed"
    assert shown["failure"]
    assert str(tmp_path) not in answer.text + json.dumps(shown)
    assert not marker.exists()
