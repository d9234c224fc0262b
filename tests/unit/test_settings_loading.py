"""From config.yaml to Settings, and what is said of a file that is wrong."""

import errno
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from homelab_ai.settings import Settings
from homelab_ai.settings.loading import ConfigurationError, load_settings

HASH = "0123456789abcdef" * 4

MODELS_OF_THE_SPECIFICATION = """\
models:
  image_caption:
    - id: blip-base
      hf_model: Salesforce/blip-image-captioning-base
      enabled: true
      default: true
    - id: llava
      hf_model: llava-hf/llava-1.5-7b-hf
      enabled: false

  text_embedding:
    - id: minilm
      hf_model: sentence-transformers/all-MiniLM-L6-v2
      dimensions: 384
      enabled: true
      default: true
    - id: mpnet
      hf_model: sentence-transformers/all-mpnet-base-v2
      dimensions: 768
      enabled: false

resources:
  max_gpu_memory_gb: 8
  max_concurrent_requests: 4
  model_keep_alive_minutes: 30
"""

SECURITY_OF_THE_SPECIFICATION = """\
security:
  auth_enabled: true
  api_keys:
    - key_hash: "sha256_hash"
      name: "my-app"
  ip_allowlist:
    - 192.168.1.0/24
    - 127.0.0.1
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str = "", environ: Mapping[str, str] | None = None) -> Settings:
    Path("config.yaml").write_text(text, encoding="utf-8")
    return load_settings(environ=environ or {})


def problems(text: str = "", environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text, environ)
    return caught.value.problems


# --- where the file is


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_settings(environ={}) == Settings()


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "server:\n  # port: 80\nmodels:\nsecurity:\n", "\ufeffserver: {}\n"]
)
def test_a_file_that_says_nothing_means_the_defaults(text: str) -> None:
    assert loaded(text) == Settings()


def test_the_path_that_is_passed_wins_over_the_variable_and_over_config_yaml() -> None:
    for port in (1, 2, 3):
        Path(f"{port}.yaml").write_text(f"server: {{port: {port}}}", encoding="utf-8")
    Path("3.yaml").rename("config.yaml")
    environ = {"HOMELAB_AI_CONFIG": "2.yaml"}
    assert load_settings(Path("1.yaml"), environ).server.port == 1
    assert load_settings(None, environ).server.port == 2
    assert load_settings(None, {"HOMELAB_AI_CONFIG": ""}).server.port == 3


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_AI__SERVER__PORT", "8123")
    assert load_settings().server.port == 8123


@pytest.mark.parametrize("environ", [{}, {"HOMELAB_AI_CONFIG": "here.yaml"}])
def test_a_named_file_that_is_missing_is_a_problem(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None if environ else Path("here.yaml"), environ)
    assert caught.value.problems == ("here.yaml: there is no such file",)


def test_a_folder_in_place_of_the_file_is_explained() -> None:
    Path("config.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"config\.yaml: this is a folder, not a file \(Docker makes one"):
        load_settings(environ={})


def test_a_file_that_may_not_be_read_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by its mode: root, as whom tests run in containers, may read every file.
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ConfigurationError, match=r"config\.yaml: cannot be read: Permission denied"):
        load_settings(environ={})


def test_a_file_that_is_not_utf_8_is_a_problem() -> None:
    Path("config.yaml").write_bytes("server: {host: Küche}".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"config\.yaml: not UTF-8 text"):
        load_settings(environ={})


@pytest.mark.parametrize(
    ("text", "got"), [("- server\n", "a list"), ("server\n", "'server'"), ("5", "5"), ("false", "false")]
)
def test_a_file_that_is_no_mapping_is_a_problem(text: str, got: str) -> None:
    assert problems(text) == (f"config.yaml:1: expected `name: value` lines, got {got}",)


def test_a_file_that_is_not_yaml_is_a_problem() -> None:
    [told] = problems("server:\n  port: 1\n host: x\n")
    assert told.startswith("config.yaml:3: not valid YAML: ")


# --- what the file says


def test_the_models_of_the_specification() -> None:
    assert loaded(MODELS_OF_THE_SPECIFICATION) == Settings()


def test_the_security_of_the_specification_needs_a_real_hash() -> None:
    [problem] = problems(SECURITY_OF_THE_SPECIFICATION)
    assert problem.startswith("config.yaml:4: security.api_keys[0].key_hash: expected the SHA-256 of the key")
    assert problem.endswith("make it with: printf %s KEY | sha256sum")


def test_the_security_of_the_specification_with_a_real_hash() -> None:
    security = loaded(SECURITY_OF_THE_SPECIFICATION.replace("sha256_hash", HASH)).security
    assert security.auth_enabled
    assert [(key.name, key.key_hash, key.scopes) for key in security.api_keys] == [
        ("my-app", HASH, ("embed", "caption", "crawl", "read"))
    ]
    assert security.ip_allowlist == (ip_network("192.168.1.0/24"), ip_network("127.0.0.1/32"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # names
        (
            "resources:\n  max_concurent_requests: 4\n",
            "config.yaml:2: resources.max_concurent_requests: unknown setting; did you mean max_concurrent_requests?",
        ),
        ("port: 80\n", "config.yaml:1: port: unknown setting; did you mean server.port?"),
        ("text_embedding: []\n", "config.yaml:1: text_embedding: unknown setting; did you mean models.text_embedding?"),
        ("timeout: 5\n", "config.yaml:1: timeout: unknown setting; did you mean crawl.timeout_seconds?"),
        ("server: {Port: 80}\n", "config.yaml:1: server.Port: unknown setting; did you mean port?"),
        ("data-dir: x\n", "config.yaml:1: data-dir: unknown setting; did you mean data_dir?"),
        (
            "resources:\n  max_texts: 4\n",
            "config.yaml:2: resources.max_texts: unknown setting; did you mean limits.max_texts?",
        ),
        ("cache:\n  url: memory://\n", "config.yaml:1: cache: unknown setting"),
        ("jobs: {}\n", "config.yaml:1: jobs: unknown setting"),
        (
            "models:\n  text_embedding:\n    - id: a\n      hf_model: b\n      dimension: 5\n",
            "config.yaml:5: models.text_embedding[0].dimension: unknown setting; did you mean dimensions?",
        ),
        (
            "server: {port: 1}\n\nserver: {port: 2}\n",
            "config.yaml:3: server: given twice, first in line 1; keep one of them",
        ),
        ("server:\n  on: 1\n", "config.yaml:2: server: a name that is not text; put it in quotes"),
        # values
        (
            "resources:\n\n  max_gpu_memory_gb: lots\n",
            "config.yaml:3: resources.max_gpu_memory_gb: expected a number above 0, a billion at most, got 'lots'",
        ),
        (
            "server:\n  port: '8000'\n",
            "config.yaml:2: server.port: expected a whole number from 1 to 65535, got '8000'",
        ),
        ("server:\n  port: yes\n", "config.yaml:2: server.port: expected a whole number from 1 to 65535, got true"),
        ("server:\n  port:\n", "config.yaml:2: server.port: expected a whole number from 1 to 65535, got nothing"),
        ("server:\n  port: [1]\n", "config.yaml:2: server.port: expected a whole number from 1 to 65535, got a list"),
        ("limits: 5\n", "config.yaml:1: limits: expected `name: value` lines, got 5"),
        (
            "server:\n  trusted_proxies: 10.0.0.1\n",
            "config.yaml:2: server.trusted_proxies: expected a list such as [a, b], or [] for none, got '10.0.0.1'",
        ),
        (
            "security:\n  ip_allowlist:\n",
            "config.yaml:2: security.ip_allowlist: expected a list such as [a, b], or [] for none, got nothing",
        ),
        (
            "security:\n  ip_allowlist:\n    - 10.0.0.0/8\n    - 192.168.1.5/24\n",
            "config.yaml:4: security.ip_allowlist[1]: 192.168.1.5/24 is one address of a network; write 192.168.1.0/24",
        ),
        # entries
        (
            "models:\n  text_embedding:\n    - {id: a, hf_model: b}\n    - hf_model: c\n",
            "config.yaml:4: models.text_embedding[1].id: missing; every entry needs it",
        ),
        (
            "models:\n  text_embedding:\n    - {id: a, hf_model: b}\n    - hf_model: c\n      id: A\n",
            "config.yaml:5: models.text_embedding[1].id: the same name as models.text_embedding[0].id;",
        ),
        (
            "models:\n  image_caption:\n    - {id: minilm, hf_model: b}\n",
            "config.yaml:3: models.image_caption[0].id: the same name as models.text_embedding[0].id;",
        ),
        (
            "models:\n  text_embedding: [{id: a, hf_model: b,\n    prompts: {query: 5}}]\n",
            "config.yaml:3: models.text_embedding[0].prompts.query: expected text (a number or a word like yes, no",
        ),
        ("models:\n  image_caption: [llava]\n", "config.yaml:2: models.image_caption[0]: expected `name: value` lines"),
    ],
)
def test_each_problem_is_one_line_that_says_where_and_what(text: str, told: str) -> None:
    [problem] = problems(text)
    assert problem.startswith(told)


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "server:\n  prot: 1\n  port: x\nlimits:\n  max_texts: 0\nlimits:\n  max_texts: 0\n"
    told = problems(text, {"HOMELAB_AI__DATADIR": "x", "HOMELAB_AI__RESOURCES__DEVICE": "tpu"})
    assert [line.partition(" ")[0] for line in told] == [
        "config.yaml:2:",
        "config.yaml:3:",
        "config.yaml:6:",
        "config.yaml:7:",
        "environment",
        "environment",
    ]


def test_the_error_reads_as_a_block() -> None:
    error = ConfigurationError(["config.yaml:1: a", "config.yaml:2: b"])
    assert str(error) == "The configuration has 2 problems:\n  config.yaml:1: a\n  config.yaml:2: b"
    assert str(ConfigurationError(["x"])) == "The configuration has a problem:\n  x"


# --- any value at all


def told(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    try:
        return load_settings(path, environ), ()
    except ConfigurationError as error:
        return None, error.problems


NAMES = st.sampled_from(["id", "port", "api_keys", "text_embedding", "prompts"]) | st.text(max_size=3)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "x"]), ANYTHING, max_size=4))
def test_whatever_the_file_holds_is_read_or_told_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    settings, problems = told(path, {})
    assert settings or problems
    assert all(problem.startswith(str(path)) and problem.isprintable() for problem in problems)
