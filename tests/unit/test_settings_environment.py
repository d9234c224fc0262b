"""What the environment adds to config.yaml, and that no message shows a secret."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from homelab_ai.settings import Settings
from homelab_ai.settings.loading import ConfigurationError, load_settings

HASH = "0123456789abcdef" * 4


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


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SERVER__PORT", "8001", 8001),
        ("SERVER__HOST", "0.0.0.0", "0.0.0.0"),
        ("SERVER__ROOT_PATH", "", ""),
        ("SERVER__ALLOWED_HOSTS", "[nas.lan, '::1']", ("nas.lan", "::1")),
        ("SERVER__TRUSTED_PROXIES", '["10.0.0.0/8"]', (ip_network("10.0.0.0/8"),)),
        ("SECURITY__AUTH_ENABLED", "false", False),
        ("SECURITY__AUTH_ENABLED", "no", False),
        ("SECURITY__RATE_LIMIT", "600/minute", "600/minute"),
        ("SECURITY__RATE_LIMIT", "null", None),
        ("SECURITY__RATE_LIMIT", "", None),
        ("CRAWL__USER_AGENT", "no", "no"),
        ("CRAWL__USER_AGENT", "1e5", "1e5"),
        ("CRAWL__USER_AGENT", "a: [b", "a: [b"),
        ("DATA_DIR", "1e5", Path("1e5")),
        ("DATA_DIR", "null", Path("null")),
        ("DATA_DIR", "no", Path("no")),
        ("LIMITS__MAX_BODY_MB", "1e3", 1000.0),
        ("RESOURCES__MAX_MEMORY_GB", "auto", "auto"),
        ("RESOURCES__MAX_MEMORY_GB", "8", 8.0),
        ("RESOURCES__DEVICE", "cuda:0", "cuda:0"),
    ],
)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_the_environment_wins(variable: str, text: str, value: Any, case: Any) -> None:
    file = "server: {port: 1, host: x}\nsecurity: {rate_limit: 1/day}\ncrawl: {user_agent: file}\n"
    found: Any = loaded(file, {case(f"HOMELAB_AI__{variable}"): text})
    for name in variable.lower().split("__"):
        found = getattr(found, name)
    assert found == value


def test_the_environment_leaves_the_rest_of_a_section_alone() -> None:
    settings = loaded("server: {port: 1, root_path: /ai}\nlimits:\n", {"HOMELAB_AI__SERVER__PORT": "2"})
    assert (settings.server.port, settings.server.root_path) == (2, "/ai")


def test_an_anchor_does_not_carry_the_environment_elsewhere() -> None:
    text = "limits: &all {}\nbatching: *all\n"
    assert loaded(text, {"HOMELAB_AI__LIMITS__MAX_TEXTS": "5"}).limits.max_texts == 5


def test_a_list_comes_whole() -> None:
    [model] = loaded("", {"HOMELAB_AI__MODELS__TEXT_EMBEDDING": "[{id: x, hf_model: y}]"}).models.text_embedding
    assert (model.id, model.hf_model) == ("x", "y")


def test_an_override_makes_a_bad_value_of_the_file_harmless() -> None:
    assert loaded("server: {port: x}", {"HOMELAB_AI__SERVER__PORT": "5"}).server.port == 5


def test_other_variables_are_nobodys_problem() -> None:
    environ = {
        "HOMELAB_AI_URL": "x",
        "HOMELAB_AI_API_KEY": "y",
        "HOMELAB_AI": "z",
        "PORT": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    assert loaded("", environ) == Settings()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"SERVER__PORT": "many"}, "server.port: expected a whole number from 1 to 65535, got 'many'"),
        ({"SERVER__PORT": "true"}, "server.port: expected a whole number from 1 to 65535, got true"),
        ({"SERVER__PORT": ""}, "server.port: expected a whole number from 1 to 65535, got nothing"),
        ({"SECURITY__IP_ALLOWLIST": "10.0.0.1"}, "security.ip_allowlist: expected a list such as [a, b]"),
        ({"SECURITY__IP_ALLOWLIST": "[10.0.0.1"}, "security.ip_allowlist: not valid YAML: "),
        (
            {"MODELS__TEXT_EMBEDDING": "[{id: x, id: y, hf_model: z}]"},
            "models.text_embedding[0].id: given twice, first in line 1; keep one of them",
        ),
        ({"MODELS__TEXT_EMBEDDING": "[{hf_model: z}]"}, "models.text_embedding[0].id: missing; every entry needs it"),
        ({"SERVER__PROT": "1"}, "unknown setting; did you mean HOMELAB_AI__SERVER__PORT?"),
        ({"SERVR__PORT": "1"}, "unknown setting; did you mean HOMELAB_AI__SERVER__PORT?"),
        ({"PORT": "1"}, "unknown setting; did you mean HOMELAB_AI__SERVER__PORT?"),
        ({"SERVER__PROT_FILE": "x"}, "unknown setting; did you mean HOMELAB_AI__SERVER__PORT_FILE?"),
        ({"JOBS__URL": "redis://x"}, "unknown setting"),
        ({"": "x"}, "unknown setting"),
        ({"SERVER": "{port: 1}"}, "this is a group of settings; set them one by one, such as HOMELAB_AI__SERVER__HOST"),
        (
            {"MODELS__TEXT_EMBEDDING__0__ID": "x"},
            "unknown setting; models.text_embedding can only be given whole, with HOMELAB_AI__MODELS__TEXT_EMBEDDING",
        ),
        ({"SERVER__PORT_FILE": "absent"}, "server.port: the file that it names cannot be read: No such file"),
    ],
)
def test_a_problem_of_the_environment_names_the_variable(environ: dict[str, str], told: str) -> None:
    [(name, text)] = environ.items()
    [problem] = problems("", {f"HOMELAB_AI__{name}": text})
    assert problem.startswith(f"environment variable HOMELAB_AI__{name}: {told}")


@pytest.mark.parametrize("other", ["HOMELAB_AI__SERVER__PORT_FILE", "homelab_ai__server__port"])
def test_a_setting_that_is_given_by_two_variables_is_a_problem(other: str) -> None:
    Path("port").write_text("2", encoding="utf-8")
    text = "port" if other.endswith("_FILE") else "2"
    assert problems("", {"HOMELAB_AI__SERVER__PORT": "1", other: text}) == (
        f"environment variable {other}: server.port: given by HOMELAB_AI__SERVER__PORT too; keep one of them",
    )


# --- values in files of their own, and secrets


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_value_may_stand_in_a_file_of_its_own(ending: str) -> None:
    Path("agent").write_bytes(f"My Agent 1.0{ending}".encode())
    Path("keys").write_bytes(f"- name: app\n  key_hash: {HASH}{ending}".encode())
    settings = loaded(
        "", {"HOMELAB_AI__CRAWL__USER_AGENT_FILE": "agent", "HOMELAB_AI__SECURITY__API_KEYS_FILE": "keys"}
    )
    assert settings.crawl.user_agent == "My Agent 1.0"
    assert settings.security.api_keys[0].key_hash == HASH


SECRET = "hunter2hunter2hunter2hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        [SECRET],
        {SECRET: "app"},
        [{SECRET: "app", "name": "app"}],
        [{"name": "app", "key_hash": SECRET}],
        [{"name": "app", "key_hash": [SECRET]}],
        [{"name": "app", "key": SECRET}],
    ],
)
def test_no_message_holds_a_secret(value: Any) -> None:
    Path("value").write_text(yaml.safe_dump(value), encoding="utf-8")
    by_file = problems(yaml.safe_dump({"security": {"api_keys": value}}))
    by_environment = problems("", {"HOMELAB_AI__SECURITY__API_KEYS": yaml.safe_dump(value)})
    by_secret_file = problems("", {"HOMELAB_AI__SECURITY__API_KEYS_FILE": "value"})
    assert by_file
    assert by_environment
    assert by_secret_file
    assert "hunter2" not in str([by_file, by_environment, by_secret_file])


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("SERVER__PORT", "hunter2"),
        ("SERVER__HOST", "http://hunter2"),
        ("SECURITY__IP_ALLOWLIST", "[10.11.12.13/8]"),
        ("SECURITY__IP_ALLOWLIST", "[hunter2"),
        ("SECURITY__IP_ALLOWLIST", "*hunter2"),
        ("SECURITY__API_KEYS", "[*hunter2]"),
        ("SECURITY__RATE_LIMIT", "hunter2"),
    ],
)
def test_no_message_holds_a_value_of_a_file_of_its_own(setting: str, text: str) -> None:
    Path("value").write_text(text, encoding="utf-8")
    [problem] = problems("", {f"HOMELAB_AI__{setting}_FILE": "value"})
    assert "hunter2" not in problem
    assert "10.11.12.13" not in problem


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_of_its_own_that_cannot_be_read_is_a_problem_and_its_path_stays_unsaid(content: bytes | None) -> None:
    path = Path("hunter2")
    if content:
        path.write_bytes(content)
    [problem] = problems("", {"HOMELAB_AI__SECURITY__API_KEYS_FILE": str(path)})
    assert "the file that it names" in problem
    assert "hunter2" not in problem


# --- any value at all


def told(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings | None, tuple[str, ...]]:
    try:
        return load_settings(path, environ), ()
    except ConfigurationError as error:
        return None, error.problems


@given(st.text().filter(lambda text: "\0" not in text))
def test_text_in_the_environment_is_taken_as_it_stands_or_refused(text: str) -> None:
    settings, problems = told(None, {"HOMELAB_AI__CRAWL__USER_AGENT": text})
    if settings:
        assert settings.crawl.user_agent == (None if text in {"", "~", "null"} else text)
    else:
        [problem] = problems
        assert "crawl.user_agent: expected text on one line" in problem


@given(port=st.integers(1, 65535), size=st.floats(0.001, 1e6), switch=st.booleans())
def test_plain_values_come_through_the_environment_unchanged(*, port: int, size: float, switch: bool) -> None:
    environ = {
        "HOMELAB_AI__SERVER__PORT": str(port),
        "HOMELAB_AI__LIMITS__MAX_BODY_MB": repr(size),
        "HOMELAB_AI__SECURITY__AUTH_ENABLED": str(switch),
    }
    settings = load_settings(environ=environ)
    assert (settings.server.port, settings.limits.max_body_mb, settings.security.auth_enabled) == (port, size, switch)
