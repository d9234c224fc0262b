"""The tree itself: its defaults, what each kind of value accepts, and the rules between settings."""

import hashlib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from homelab_ai.settings import ApiKeySettings, ImageCaptionModel, TextEmbeddingModel, reserved_in_use
from homelab_ai.settings.tree import LimitsSettings, ServerSettings, Settings
from homelab_ai.settings.values import model_within

HASH = "0123456789abcdef" * 4


def refusals(values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def entry(**more: Any) -> dict[str, Any]:
    return {"id": "tiny", "hf_model": "org/tiny", **more}


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def found(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_defaults_offer_the_models_of_the_specification() -> None:
    models = Settings().models
    assert [(model.id, model.hf_model, model.enabled, model.default) for model in models.image_caption] == [
        ("blip-base", "Salesforce/blip-image-captioning-base", True, True),
        ("llava", "llava-hf/llava-1.5-7b-hf", False, False),
    ]
    assert [
        (model.id, model.hf_model, model.dimensions, model.enabled, model.default) for model in models.text_embedding
    ] == [
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2", 384, True, True),
        ("mpnet", "sentence-transformers/all-mpnet-base-v2", 768, False, False),
    ]


def test_defaults_are_values_that_the_tree_itself_accepts() -> None:
    assert Settings.model_validate(Settings().model_dump()) == Settings()


def test_one_list_of_models_replaces_the_default_of_its_type_only() -> None:
    models = Settings.model_validate({"models": {"text_embedding": [entry()]}}).models
    assert [model.id for model in models.text_embedding] == ["tiny"]
    assert models.image_caption == Settings().models.image_caption


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().server.port = 1


def test_every_field_has_a_description() -> None:
    def undescribed(model: type[BaseModel]) -> list[str]:
        names = []
        for name, field in model.model_fields.items():
            names += [] if field.description else [f"{model.__name__}.{name}"]
            inner = model_within(field.annotation)
            names += undescribed(inner) if inner else []
        return names

    assert undescribed(Settings) == []


@pytest.mark.parametrize(("megabytes", "size"), [(64, 67_108_864), (0.5, 524_288)])
def test_max_body_bytes(megabytes: float, size: int) -> None:
    assert LimitsSettings(max_body_mb=megabytes).max_body_bytes == size


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("server.port", 65535, 65535),
        ("server.host", "0.0.0.0", "0.0.0.0"),
        ("server.host", "[::]", "::"),
        ("server.root_path", "/ai/v1", "/ai/v1"),
        ("server.allowed_hosts", ["NAS.lan", "[::1]"], ("nas.lan", "::1")),
        ("server.trusted_proxies", ["10.0.0.1", "fd00::/8"], (ip_network("10.0.0.1/32"), ip_network("fd00::/8"))),
        ("security.ip_allowlist", ["192.168.1.0/24"], (ip_network("192.168.1.0/24"),)),
        ("security.rate_limit", "600/minute", "600/minute"),
        ("security.rate_limit_url", "memory://", "memory://"),
        ("security.rate_limit_url", "redis://:pass@nas.lan:6379/1", "redis://:pass@nas.lan:6379/1"),
        ("security.rate_limit_url", "rediss://[::1]", "rediss://[::1]"),
        ("security.rate_limit_url", "redis+unix:///run/redis.sock?db=1", "redis+unix:///run/redis.sock?db=1"),
        ("crawl.allow_networks", ["10.0.0.0/255.0.0.0"], (ip_network("10.0.0.0/8"),)),
        ("crawl.allow_hosts", ["NAS.lan", ".LAN", "[::1]"], ("nas.lan", ".lan", "::1")),
        ("crawl.allow_ports", [80], (80,)),
        ("crawl.user_agent", None, None),
        ("data_dir", "/var/lib/ai", Path("/var/lib/ai")),
        ("data_dir", "~/ai", Path.home() / "ai"),
        ("resources.device", "cuda:1", "cuda:1"),
        ("resources.max_gpu_memory_gb", 8, 8.0),
        ("resources.max_memory_gb", "auto", "auto"),
        ("resources.max_memory_gb", 2.5, 2.5),
        ("resources.max_queued_requests", 0, 0),
        ("resources.model_keep_alive_minutes", -1, -1),
        ("resources.model_keep_alive_minutes", 0, 0),
        ("resources.model_keep_alive_minutes", 0.25, 0.25),
        ("resources.local_model_roots", ["/srv/models"], (Path("/srv/models"),)),
        ("batching.window_ms", 0, 0),
        ("server", None, ServerSettings()),
    ],
)
def test_accepted(path: str, given: Any, expected: Any) -> None:
    assert found(Settings.model_validate(nested(path, given)), path) == expected


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("server.port", 0, "expected a whole number from 1 to 65535"),
        ("server.port", 65536, "expected a whole number from 1 to 65535"),
        ("server.port", True, "expected a whole number from 1 to 65535"),
        ("server.port", "8000", "expected a whole number from 1 to 65535"),
        ("server.port", 8000.0, "expected a whole number from 1 to 65535"),
        ("server.host", "http://nas", "expected a bare host name or address"),
        ("server.host", "", "expected a bare host name or address"),
        ("server.host", ".lan", "expected a bare host name or address"),
        ("server.root_path", "ai", "expected a path such as /ai"),
        ("server.root_path", "/ai/", "expected a path such as /ai"),
        ("data_dir", "", "expected the path of a folder"),
        ("data_dir", 5, "expected the path of a folder"),
        ("security.auth_enabled", "yes", "expected true or false"),
        ("security.auth_enabled", 1, "expected true or false"),
        ("security.rate_limit", "600/min", "expected a count per second, minute, hour or day, such as 600/minute"),
        ("security.rate_limit", "0/minute", "expected a count per second"),
        ("resources.device", "gpu", "expected auto, cpu, cuda, mps"),
        ("resources.max_gpu_memory_gb", 0, "expected a number above 0"),
        ("resources.max_gpu_memory_gb", float("inf"), "expected a number above 0"),
        ("resources.max_gpu_memory_gb", 1e308, "expected a number above 0, a billion at most"),
        ("resources.max_gpu_memory_gb", float("nan"), "expected a number above 0"),
        ("resources.max_gpu_memory_gb", False, "expected a number above 0"),
        ("resources.max_memory_gb", "lots", "expected auto, or a number above 0"),
        ("resources.max_memory_gb", True, "expected auto, or a number above 0"),
        ("resources.model_keep_alive_minutes", -2, "expected minutes (fractions are fine), 0 for at once, or -1"),
        ("resources.max_concurrent_requests", 0, "expected a whole number of at least 1"),
        ("resources.max_queued_requests", -1, "expected a whole number of at least 0"),
        ("batching.window_ms", -1, "expected a number from 0 to a billion"),
        ("crawl.user_agent", "a\r\nCookie: b", "expected text on one line"),
        ("crawl.delay_seconds", 3601, "expected a number from 0 to 3600"),
    ],
)
def test_refused(path: str, given: Any, message: str) -> None:
    [(place, told)] = refusals(nested(path, given)).items()
    assert place == path
    assert told.startswith(message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("192.168.1.5/24", "write 192.168.1.0/24 for the network, or 192.168.1.5 for the address"),
        ("fd00::1/8", "write fd00::/8 for the network, or fd00::1 for the address"),
        ("nas.lan", "expected an address such as 192.168.1.10"),
        ("10.0.0.0/33", "expected an address such as 192.168.1.10"),
        ("fe80::1%eth0", "expected an address such as 192.168.1.10"),
        (3232235777, "expected an address such as 192.168.1.10"),
    ],
)
@pytest.mark.parametrize("path", ["security.ip_allowlist", "server.trusted_proxies", "crawl.allow_networks"])
def test_refused_networks(path: str, given: Any, message: str) -> None:
    assert message in refusals(nested(path, [given]))[f"{path}.0"]


@pytest.mark.parametrize("given", ["", ".", "..lan", "*.lan", ".192.168.1.1", "http://nas.lan", "nas.lan:80", 5, None])
def test_refused_hosts_to_crawl(given: Any) -> None:
    told = refusals(nested("crawl.allow_hosts", ["nas.lan", given]))["crawl.allow_hosts.1"]
    assert told.startswith("expected a bare host name or address, such as nas.lan, or .lan for all hosts whose name")


@pytest.mark.parametrize(
    "given",
    ["", "secret", "redis://", "redis://:secret@", "redis:///1", "http://:secret@nas.lan", "redis://:secret@nas.lan:x",
     "redis://:secret@nas.lan:70000", "redis+unix://", "memory://x", "redis://:se cret@nas.lan", "redis://[secret", 5,
     None],
)  # fmt: skip
def test_what_is_no_address_of_a_counter_is_refused_and_not_repeated(given: Any) -> None:
    told = refusals(nested("security.rate_limit_url", given))["security.rate_limit_url"]
    assert told.startswith("expected memory://, redis://host:6379/0")
    assert "secret" not in told


@pytest.mark.parametrize("given", [HASH, HASH.upper(), f"sha256:{HASH}", f"SHA256:{HASH.upper()}"])
def test_key_hashes_are_normalised(given: str) -> None:
    assert ApiKeySettings(name="app", key_hash=given).key_hash == HASH


@pytest.mark.parametrize("given", ["sha256_hash", HASH[1:], HASH + "0", "g" + HASH[1:], 12345, None])
def test_what_is_no_key_hash_is_answered_with_how_to_make_one(given: Any) -> None:
    told = refusals(nested("security.api_keys", [{"name": "app", "key_hash": given}]))["security.api_keys.0.key_hash"]
    assert "printf %s KEY | sha256sum" in told
    assert str(given) not in told


def test_the_hash_of_an_empty_key_is_refused() -> None:
    empty = hashlib.sha256(b"").hexdigest()
    told = refusals(nested("security.api_keys", [{"name": "app", "key_hash": empty}]))["security.api_keys.0.key_hash"]
    assert "the key was empty" in told


def test_a_key_without_scopes_has_all_but_admin() -> None:
    assert ApiKeySettings(name="app", key_hash=HASH).scopes == ("embed", "caption", "crawl", "read")


def test_a_key_may_have_admin_and_a_network_may_not() -> None:
    assert ApiKeySettings(name="app", key_hash=HASH, scopes=("admin",)).scopes == ("admin",)
    network = {"cidr": "10.0.0.0/8", "name": "lan", "scopes": ["read", "admin"]}
    assert refusals(nested("security.networks", [network])) == {
        "security.networks.0.scopes.1": "the admin scope needs a key: an address alone cannot have it"
    }


@pytest.mark.parametrize(("field", "value"), [("scopes", []), ("models", [])])
def test_an_empty_list_is_not_taken_for_everything(field: str, value: list[str]) -> None:
    told = refusals(nested("security.api_keys", [{"name": "app", "key_hash": HASH, field: value}]))
    assert told == {
        f"security.api_keys.0.{field}": "expected at least one entry; to get the default, leave the setting out"
    }


@pytest.mark.parametrize("name", ["a", "a" * 64, "A.b_c-1", "0"])
def test_model_ids(name: str) -> None:
    assert ImageCaptionModel(id=name, hf_model="x").id == name


@pytest.mark.parametrize("name", ["", "a" * 65, "-a", ".a", "a/b", "a b", "ä", "a\n"])
def test_refused_model_ids(name: str) -> None:
    assert list(refusals(nested("models.text_embedding", [entry(id=name)]))) == ["models.text_embedding.0.id"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dimensions", 0, "expected a whole number of at least 1"),
        ("max_length", True, "expected a whole number of at least 1"),
        ("backend", "onnx", "expected auto, openvino or torch"),
        ("precision", "int8", "expected auto, float32, bfloat16 or float16"),
        ("keep_alive_minutes", -5, "expected minutes"),
        ("aliases", ["a b"], "expected at most 128 letters"),
        ("hf_model", " ", "expected text on one line"),
        ("prompts", {"query": 1}, "expected text"),
    ],
)
def test_refused_fields_of_a_model(field: str, value: Any, message: str) -> None:
    [told] = refusals(nested("models.text_embedding", [entry(**{field: value})])).values()
    assert told.startswith(message)


def test_a_prompt_may_end_in_a_space() -> None:
    assert TextEmbeddingModel(id="e5", hf_model="x", prompts={"query": "query: "}).prompts["query"] == "query: "


@pytest.mark.parametrize(
    ("models", "place"),
    [
        ({"text_embedding": [entry(id="a"), entry(id="A")]}, "text_embedding.1.id"),
        ({"text_embedding": [entry(id="a", aliases=["A"])]}, "text_embedding.0.aliases.0"),
        ({"text_embedding": [entry(id="a", aliases=["x"]), entry(aliases=["y", "X"])]}, "text_embedding.1.aliases.1"),
        ({"text_embedding": [entry(id="LLaVA")]}, "text_embedding.0.id"),
        ({"image_caption": [entry(id="minilm")]}, "image_caption.0.id"),
        ({"image_caption": [entry()], "text_embedding": [entry()]}, "text_embedding.0.id"),
    ],
)
def test_names_of_models_are_unique_whatever_the_type(models: dict[str, Any], place: str) -> None:
    [(told_place, told)] = refusals({"models": models}).items()
    assert told_place == f"models.{place}"
    assert told.startswith("the same name as models.")


def test_each_type_has_at_most_one_default() -> None:
    models = [entry(id="a", default=True), entry(id="b"), entry(id="c", default=True)]
    assert refusals(nested("models.text_embedding", models)) == {
        "models.text_embedding.2.default": "models.text_embedding[0].default is true already"
    }


def test_no_default_is_fine() -> None:
    assert Settings.model_validate(nested("models.text_embedding", [entry()])).models.text_embedding[0].default is False


def test_the_default_must_be_enabled() -> None:
    assert refusals(nested("models.text_embedding", [entry(enabled=False, default=True)])) == {
        "models.text_embedding.0.default": "a model that is the default must be enabled"
    }


def test_keys_and_networks_can_be_told_apart() -> None:
    other = "f" * 64
    security = {
        "api_keys": [
            {"name": "a", "key_hash": HASH},
            {"name": "a", "key_hash": other},
            {"name": "b", "key_hash": HASH.upper()},
        ],
        "networks": [{"cidr": "10.0.0.0/8", "name": "x"}, {"cidr": "10.0.0.0/255.0.0.0", "name": "y"}],
    }
    assert refusals({"security": security}) == {
        "security.api_keys.1.name": "the same as security.api_keys[0].name; they must all differ",
        "security.api_keys.2.key_hash": "the same as security.api_keys[0].key_hash; they must all differ",
        "security.networks.1.cidr": "the same as security.networks[0].cidr; they must all differ",
    }


def test_nothing_reserved_is_in_use_by_default() -> None:
    assert reserved_in_use(Settings()) == []


def test_reserved_settings_are_named_when_they_are_used() -> None:
    models = nested("models.text_embedding", [entry(prompts={"query": "query: "})])
    assert reserved_in_use(Settings.model_validate(models)) == ["models.text_embedding[0].prompts"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("server.port", 1),
        ("data_dir", "x"),
        ("resources.device", "cpu"),
        ("resources.request_timeout_seconds", 1),
        ("resources.max_concurrent_requests", 8),
        ("resources.max_queued_requests", 8),
        ("batching.window_ms", 1),
        ("batching.max_items", 1),
        ("batching.max_tokens", 1),
        ("resources.max_gpu_memory_gb", 4),
        ("resources.max_memory_gb", 4),
        ("resources.model_keep_alive_minutes", -1),
        ("limits.max_body_mb", 1),
        ("limits.max_texts", 1),
        ("security.auth_enabled", False),
        ("security.allow_localhost", True),
        ("logging.format", "json"),
        ("logging.level", "debug"),
        ("tracing.enabled", True),
        ("security.ip_allowlist", ["10.0.0.0/8"]),
        ("security.networks", [{"cidr": "10.0.0.0/8", "name": "lan"}]),
        ("security.rate_limit", "1/second"),
        ("security.rate_limit_url", "redis://nas.lan"),
        ("security.api_keys", [{"name": "app", "key_hash": HASH, "scopes": ["read"], "models": ["minilm"]}]),
        ("security.api_keys", [{"name": "app", "key_hash": HASH, "rate_limit": "1/second"}]),
        ("security.api_keys", [{"name": "app", "key_hash": HASH, "crawl_allow_networks": ["10.0.0.0/8"]}]),
        ("crawl.user_agent", "me"),
        ("crawl.enabled", False),
        ("crawl.allow_networks", ["10.0.0.0/8"]),
        ("crawl.allow_hosts", ["nas.lan"]),
        ("crawl.allow_ports", [80]),
        ("crawl.timeout_seconds", 1),
        ("crawl.max_page_mb", 1),
        ("crawl.browser_idle_minutes", 1),
        ("crawl.respect_robots", True),
        ("crawl.delay_seconds", 1),
        (
            "models.text_embedding",
            [entry(device="cpu", precision="float32", max_length=5, aliases=["x"], keep_alive_minutes=5)],
        ),
    ],
)
def test_settings_in_force_are_not_called_reserved(path: str, value: Any) -> None:
    assert reserved_in_use(Settings.model_validate(nested(path, value))) == []


def test_reserved_settings_of_entries_are_named_with_their_index() -> None:
    settings = Settings.model_validate(
        {
            "models": {
                "text_embedding": [entry(), entry(id="e5", prompts={"query": "query: "})],
            },
        }
    )
    assert reserved_in_use(settings) == ["models.text_embedding[1].prompts"]
