"""`homelab-ai config`: whether a configuration can be used, and what is in force, without a secret."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from homelab_ai.cli import cli
from homelab_ai.settings import Settings

HASH = "0123456789abcdef" * 4
CONFIG = f"""
server:
  host: 0.0.0.0
models:
  text_embedding:
    - {{id: mine, hf_model: org/name, keep_alive_minutes: -1, prompts: {{query: "q: "}}}}
security:
  rate_limit_url: redis://anna:geheim@nas.lan:6379/0?password=geheim
  api_keys:
    - {{name: boss, key_hash: {HASH}, scopes: [admin, read]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "config.yaml"


def config(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments], env=environment)


def test_what_can_be_used_is_said_and_what_has_no_effect(file: Path) -> None:
    done = config("check", "--config", str(file))
    expected = f"{file} can be used\nmodels.text_embedding[0].prompts has no effect in this version\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, expected, "")
    done = config("check", "--json", HOMELAB_AI_CONFIG=str(file))
    assert (done.exit_code, json.loads(done.stdout)["usable"]) == (0, True)


def test_each_mistake_is_said_with_its_place(file: Path) -> None:
    file.write_text("server: {prot: 1}\nresources:\n  max_memory_gb: 4 GB\n")
    done = config("check", "--config", str(file), HOMELAB_AI__SERVER__PORT="x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "The configuration has 3 problems:" in done.stderr
    assert f"{file}:1: server.prot: unknown setting; did you mean port?" in done.stderr
    assert f"{file}:3: resources.max_memory_gb: expected auto, or a number" in done.stderr
    assert "environment variable HOMELAB_AI__SERVER__PORT" in done.stderr
    done = config("check", "--config", str(file), "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["problems"])) == (1, 2)
    done = config("show", "--config", str(file))
    assert (done.exit_code, done.stdout, "prot" in done.stderr) == (1, "", True)


def test_a_file_that_was_named_has_to_be_there_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = config("check")
    assert (done.exit_code, done.stdout) == (0, "there is no config.yaml here: the defaults are in force\n")
    done = config("check", "--config", "other.yaml")
    assert (done.exit_code, "there is no such file" in done.stderr) == (1, True)


def test_every_setting_is_shown_and_where_it_was_given(file: Path) -> None:
    (file.parent / "port").write_text("8123\n")
    environment = {"HOMELAB_AI__LOGGING__LEVEL": "debug", "HOMELAB_AI__SERVER__PORT_FILE": str(file.parent / "port")}
    done = config("show", "--config", str(file), **environment)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    for line in (
        f"host: 0.0.0.0  # {file}:3",
        "port: '***'  # HOMELAB_AI__SERVER__PORT_FILE",
        f"text_embedding:  # {file}:5",
        "- {id: mine, hf_model: org/name, keep_alive_minutes: -1.0, prompts: {query: 'q: '}}",
        f"rate_limit_url: redis://***@nas.lan:6379/0?***  # {file}:8",
        "- {name: boss, key_hash: '***', scopes: [admin, read]}",
        "level: debug  # HOMELAB_AI__LOGGING__LEVEL",
        "timeout_seconds: 30.0",
    ):
        assert line in lines
    for secret in (HASH, "geheim", "anna", "8123"):
        assert secret not in done.stdout
    assert yaml.safe_load(done.stdout).keys() == Settings.model_fields.keys()

    shown = json.loads(config("show", "--config", str(file), "--json", **environment).stdout)
    assert shown["settings"]["security"]["api_keys"][0]["key_hash"] == "***"
    assert shown["settings"]["server"]["port"] == "***"
    assert shown["given_by"].keys() == {
        "server.host",
        "server.port",
        "models.text_embedding",
        "security.rate_limit_url",
        "security.api_keys",
        "logging.level",
    }


def test_keys_of_the_environment_are_shown_without_their_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in (
        ("API_KEYS", f"[{{name: app, key_hash: {HASH}}}]"),
        ("RATE_LIMIT_URL", "redis://:pass@nas"),
    ):
        done = config("show", **{f"HOMELAB_AI__SECURITY__{variable}": value})
        assert f"HOMELAB_AI__SECURITY__{variable}" in done.stdout
        assert "name: app" in done.stdout or "redis://***@nas" in done.stdout
        assert HASH not in done.stdout
        assert ":pass" not in done.stdout


def test_what_is_shown_of_the_defaults_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = yaml.safe_load(config("show").stdout)
    assert shown["security"].pop("rate_limit_url") == "memory://"
    assert Settings.model_validate(shown) == Settings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://nas.lan:6379/0", "redis://nas.lan:6379/0"),
        ("rediss://:geheim@nas.lan/0", "rediss://***@nas.lan/0"),
        ("redis+unix:///run/redis.sock?password=geheim", "redis+unix:///run/redis.sock?***"),
        ("redis://nas:12/geheim@host/0", "***"),  # a password with a slash, which Redis's client takes otherwise
        ("redis://nas:12?geheim@host", "***"),
    ],
)
def test_of_an_address_where_it_is_may_be_seen_but_no_password(tmp_path: Path, url: str, shown: str) -> None:
    (tmp_path / "config.yaml").write_text(f"security: {{rate_limit_url: '{url}'}}")
    done = config("show", "--config", str(tmp_path / "config.yaml"), "--json")
    assert json.loads(done.stdout)["settings"]["security"]["rate_limit_url"] == shown
    assert "geheim" not in done.stdout
