"""Which configured model a request means, and what it is told when it means none."""

from typing import Any

import pytest

from homelab_ai.errors import InvalidRequest, ModelNotFound, ModelNotLoaded
from homelab_ai.models.catalogue import Catalogue, Kind
from homelab_ai.settings import ModelsSettings


def catalogue(text: list[dict[str, Any]], images: list[dict[str, Any]] | None = None) -> Catalogue:
    return Catalogue(ModelsSettings.model_validate({"text_embedding": text, "image_caption": images or []}))


def entry(model_id: str, hf_model: str, **more: object) -> dict[str, Any]:
    return {"id": model_id, "hf_model": hf_model, **more}


OVERLAPPING = catalogue(
    [
        entry("one", "org/alpha"),
        entry("alpha", "org/other"),  # its id is the last part of the first one's hub name
        entry("two", "org/beta", aliases=["org/gamma", "openai/text-3:small@v1"]),
        entry("three", "org/gamma"),  # its hub name is an alias of the second one
        entry("four", "beta"),  # its hub name is the last part of the second one's
        entry("five", "/srv/models/local/"),
        entry("six", "org/straße"),
    ]
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("one", "one"),
        ("org/alpha", "one"),
        ("alpha", "alpha"),
        ("other", "alpha"),
        ("org/gamma", "two"),
        ("openai/text-3:small@v1", "two"),
        ("gamma", "three"),
        ("beta", "four"),
        ("org/beta", "two"),
        ("local", "five"),
        ("/srv/models/local/", "five"),
        ("ONE", "one"),
        ("Org/ALPHA", "one"),
        ("OpenAI/Text-3:SMALL@V1", "two"),
        ("STRASSE", "six"),
    ],
)
def test_a_name_is_looked_up_as_id_then_alias_then_hub_name_then_last_part(name: str, found: str) -> None:
    assert OVERLAPPING.choose(name, "text_embedding").id == found
    assert OVERLAPPING.get(name).id == found


@pytest.mark.parametrize(
    "name", ["", " ", "/", "org", "org/", "/alpha", "alph", "alpha ", "org/alpha/", "*", "one\0", "one\n", "../one"]
)
def test_nothing_else_is_a_name(name: str) -> None:
    with pytest.raises(ModelNotFound) as chosen:
        OVERLAPPING.choose(name, "text_embedding")
    with pytest.raises(ModelNotFound) as got:
        OVERLAPPING.get(name)
    everything = ["one", "alpha", "two", "three", "four", "five", "six"]
    assert chosen.value.details == got.value.details == {"model_id": name, "available_models": everything}


def test_an_endless_name_is_not_repeated_in_full() -> None:
    for lookup in (OVERLAPPING.get, lambda name: OVERLAPPING.choose(name, "text_embedding")):
        with pytest.raises(ModelNotFound) as raised:
            lookup("x" * 1_000_000)
        assert len(raised.value.message) < 200
        assert raised.value.details["model_id"] == "x" * 100


SHARED: list[tuple[list[bool], str]] = [
    ([True, True], "first"),
    ([False, True], "second"),
    ([True, False], "first"),
]


@pytest.mark.parametrize(("enabled", "found"), SHARED)
@pytest.mark.parametrize("name", ["org/shared", "shared"])
def test_of_two_entries_with_one_hub_name_the_enabled_one_is_meant(name: str, enabled: list[bool], found: str) -> None:
    models = catalogue(
        [entry("first", "org/shared", enabled=enabled[0]), entry("second", "org/shared", enabled=enabled[1])]
    )
    assert models.choose(name, "text_embedding").id == found
    assert models.get(name).id == found


def test_two_disabled_entries_with_one_hub_name_are_disabled() -> None:
    models = catalogue([entry("first", "org/shared", enabled=False), entry("second", "org/shared", enabled=False)])
    with pytest.raises(ModelNotLoaded):
        models.choose("org/shared", "text_embedding")


def test_a_disabled_model_is_not_passed_over_for_another_that_is_called_so_less_exactly() -> None:
    models = catalogue([entry("mine", "org/a", enabled=False), entry("other", "org/mine")])
    with pytest.raises(ModelNotLoaded) as raised:
        models.choose("mine", "text_embedding")
    assert "'mine'" in raised.value.message
    assert raised.value.details == {"model_id": "mine", "available_models": ["other"]}


def test_one_hub_name_may_have_an_entry_of_each_kind() -> None:
    models = catalogue([entry("words", "org/clip")], [entry("pictures", "org/clip")])
    assert models.choose("org/clip", "text_embedding").id == "words"
    assert models.choose("org/clip", "image_caption").id == "pictures"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_model_of_another_kind_is_a_wrong_field_not_an_unknown_model(*, enabled: bool) -> None:
    models = catalogue([entry("minilm", "org/minilm")], [entry("blip", "org/blip", enabled=enabled)])
    with pytest.raises(InvalidRequest) as raised:
        models.choose("org/BLIP", "text_embedding")
    assert raised.value.message == "model: 'blip' describes images; use one that embeds text: minilm"
    assert [problem["field"] for problem in raised.value.details["errors"]] == ["model"]


DEFAULTS: list[tuple[list[dict[str, Any]], str]] = [
    ([entry("a", "o/a"), entry("b", "o/b", default=True)], "b"),
    ([entry("a", "o/a"), entry("b", "o/b")], "a"),
    ([entry("a", "o/a", enabled=False), entry("b", "o/b"), entry("c", "o/c")], "b"),
    ([entry("a", "o/a", enabled=False), entry("b", "o/b"), entry("c", "o/c", default=True)], "c"),
]


@pytest.mark.parametrize(("entries", "default"), DEFAULTS)
def test_without_a_name_the_default_answers_else_the_first_enabled(entries: list[dict[str, Any]], default: str) -> None:
    models = catalogue(entries)
    assert models.choose(None, "text_embedding").id == default
    assert [model.id for model in models if model.default] == [default]


@pytest.mark.parametrize("kind", ["text_embedding", "image_caption"])
@pytest.mark.parametrize("entries", [[], [entry("off", "o/off", enabled=False)]])
def test_without_an_enabled_model_there_is_no_default(kind: Kind, entries: list[dict[str, Any]]) -> None:
    models = catalogue(entries if kind == "text_embedding" else [], entries if kind == "image_caption" else [])
    with pytest.raises(ModelNotFound) as raised:
        models.choose(None, kind)
    assert raised.value.details == {"model_id": None, "available_models": []}
    assert not any(model.default for model in models)


def test_a_default_of_one_kind_is_none_of_another() -> None:
    models = catalogue([], [entry("blip", "org/blip", default=True)])
    with pytest.raises(ModelNotFound):
        models.choose(None, "text_embedding")


def test_get_finds_models_of_every_kind_disabled_ones_too() -> None:
    models = catalogue([entry("off", "o/off", enabled=False)], [entry("blip", "o/blip")])
    assert models.get("O/OFF").id == "off"
    assert models.get("blip").kind == "image_caption"
    assert sorted(model.id for model in models) == ["blip", "off"]
