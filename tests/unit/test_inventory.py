"""The models on offer: the configuration, what was changed at run time, and what comes of both after a restart."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.errors import Conflict, InvalidRequest, ModelNotFound, ResourceExhausted
from homelab_ai.models.inventory import ENTRY_TYPES, Entry, Inventory
from homelab_ai.settings import Settings
from homelab_ai.state import State, StoredModel

ONE = {"id": "one", "hf_model": "org/one", "default": True}
TWO = {"id": "two", "hf_model": "org/two", "aliases": ["deux"]}
OFF = {"id": "off", "hf_model": "org/off", "enabled": False}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(tmp_path / "data")
    yield state
    state.close()


def configured(*text: dict[str, Any], image: tuple[dict[str, Any], ...] = (), **more: Any) -> Settings:
    return Settings.model_validate({"models": {"text_embedding": text, "image_caption": image}, **more})


CONFIGURED = configured(ONE, TWO, OFF)


def entry(model_id: str, hf_model: str = "org/new", **more: Any) -> Entry:
    return ENTRY_TYPES["text_embedding"].model_validate({"id": model_id, "hf_model": hf_model, **more})


def offered(inventory: Inventory) -> list[str]:
    """The ids; the default one with a star, the disabled ones in brackets."""
    return [
        f"{model.id}*" if model.default else model.id if model.settings.enabled else f"({model.id})"
        for model in inventory.catalogue
    ]


def test_nothing_changed_is_the_configuration(state: State) -> None:
    assert offered(Inventory(CONFIGURED, state)) == ["one*", "two", "(off)"]
    assert offered(Inventory(CONFIGURED, None)) == ["one*", "two", "(off)"]


def test_an_added_model_is_found_by_its_names_now_and_after_a_restart(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    added = inventory.add("text_embedding", entry("new", aliases=["neu"], keep_alive_minutes=0.5, max_length=7))
    assert (added.id, added.kind, added.default) == ("new", "text_embedding", False)
    for again in (inventory, Inventory(CONFIGURED, state)):
        assert offered(again) == ["one*", "two", "(off)", "new"]
        assert again.catalogue.choose("NEU", "text_embedding") == added
        assert again.catalogue.choose("org/new", "text_embedding") == added


@pytest.mark.parametrize("name", ["one", "ONE", "deux", "Two", "off"])
@pytest.mark.parametrize("field", ["id", "aliases"])
def test_a_name_is_not_taken_twice(state: State, name: str, field: str) -> None:
    inventory = Inventory(CONFIGURED, state)
    new = entry(name) if field == "id" else entry("new", aliases=["neu", name])
    with pytest.raises(Conflict) as raised:
        inventory.add("text_embedding", new)
    assert raised.value.details["field"] == field
    assert offered(inventory) == ["one*", "two", "(off)"]
    assert state.models() == []


def test_a_model_may_be_called_as_a_hub_name_is(state: State) -> None:
    inventory = Inventory(configured({"id": "one", "hf_model": "org/minilm"}), state)
    inventory.add("text_embedding", entry("minilm"))
    assert inventory.catalogue.get("minilm").id == "minilm"


def test_the_default_can_be_changed_and_is_one_of_each_kind(state: State) -> None:
    inventory = Inventory(configured(ONE, TWO, image=({"id": "eye", "hf_model": "org/eye"},)), state)
    inventory.add("text_embedding", entry("new", default=True))
    assert offered(inventory) == ["eye*", "one", "two", "new*"]
    inventory.change(inventory.catalogue.get("two"), {"default": True})
    assert offered(Inventory(configured(ONE, TWO), state)) == ["one", "two*", "new"]
    inventory.change(inventory.catalogue.get("one"), {"default": True})
    assert offered(inventory) == ["eye*", "one*", "two", "new"]
    assert [record.id for record in state.models()] == ["new"], "what the configuration says is not said twice"


def test_without_its_default_model_the_next_one_is_it(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.change(inventory.catalogue.get("two"), {"default": True})
    inventory.remove(inventory.catalogue.get("two"))
    assert offered(inventory) == ["one*", "(off)"]
    inventory.change(inventory.catalogue.get("one"), {"enabled": False})
    assert offered(inventory) == ["(one)", "(off)"]
    inventory.change(inventory.catalogue.get("off"), {"enabled": True})
    assert offered(inventory) == ["(one)", "off*"]
    inventory.change(inventory.catalogue.get("one"), {"enabled": True})
    assert offered(Inventory(CONFIGURED, state)) == ["one*", "off"]


@pytest.mark.parametrize("changes", [{"default": True}, {"default": True, "enabled": False}])
def test_a_disabled_model_is_not_made_the_default(state: State, changes: dict[str, Any]) -> None:
    inventory = Inventory(CONFIGURED, state)
    with pytest.raises(InvalidRequest, match="default: a disabled model"):
        inventory.change(inventory.catalogue.get("off"), changes)
    inventory.change(inventory.catalogue.get("off"), {"default": True, "enabled": True})
    assert offered(inventory) == ["one", "two", "off*"]


def test_what_is_changed_leaves_the_rest_to_the_configuration(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.change(inventory.catalogue.get("two"), {"keep_alive_minutes": 3.0})
    edited = {**TWO, "hf_model": "org/other", "keep_alive_minutes": 9}
    model = Inventory(configured(ONE, edited), state).catalogue.get("two")
    assert (model.settings.hf_model, model.settings.keep_alive_minutes) == ("org/other", 3.0)
    inventory.change(inventory.catalogue.get("two"), {"keep_alive_minutes": None})
    assert state.models() == []


def test_an_added_model_can_be_changed(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.add("text_embedding", entry("new", aliases=["neu"]))
    inventory.change(inventory.catalogue.get("neu"), {"enabled": False, "keep_alive_minutes": -1.0})
    settings = Inventory(CONFIGURED, state).catalogue.get("new").settings
    assert (settings.enabled, settings.keep_alive_minutes, settings.aliases) == (False, -1.0, ("neu",))


def test_an_added_model_is_removed_for_good(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.remove(inventory.add("text_embedding", entry("new")))
    with pytest.raises(ModelNotFound):
        inventory.catalogue.get("new")
    assert state.models() == []


def test_a_model_of_the_configuration_stays_removed_until_it_is_added_again(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.remove(inventory.catalogue.get("two"))
    inventory = Inventory(CONFIGURED, state)
    assert offered(inventory) == ["one*", "(off)"]
    inventory.add("text_embedding", ENTRY_TYPES["text_embedding"].model_validate(TWO))
    assert offered(inventory) == ["one*", "two", "(off)"]
    assert state.models() == [], "as the configuration has it, it is the configuration's again"


def test_another_model_may_take_the_place_of_a_removed_one(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.remove(inventory.catalogue.get("two"))
    inventory.add("text_embedding", entry("TWO", "org/better"))
    assert Inventory(CONFIGURED, state).catalogue.get("two").settings.hf_model == "org/better"
    inventory.change(inventory.catalogue.get("two"), {"keep_alive_minutes": 1.0})
    inventory = Inventory(CONFIGURED, state)
    assert offered(inventory) == ["one*", "(off)", "TWO"]
    inventory.remove(inventory.catalogue.get("two"))
    assert offered(Inventory(CONFIGURED, state)) == ["one*", "(off)"]


def test_where_the_configuration_comes_to_use_a_name_it_wins(state: State, caplog: pytest.LogCaptureFixture) -> None:
    inventory = Inventory(CONFIGURED, state)
    inventory.add("text_embedding", entry("new", aliases=["neu"]))
    inventory.add("text_embedding", entry("newer"))
    later = configured(ONE, {"id": "mine", "hf_model": "org/mine", "aliases": ["Neu"]})
    assert offered(Inventory(later, state)) == ["one*", "mine", "newer"]
    assert "model new, added at run time, is left out: the configuration uses neu now" in caplog.text
    assert offered(Inventory(CONFIGURED, state)) == ["one*", "two", "(off)", "new", "newer"]


@pytest.mark.parametrize(
    "record",
    [
        StoredModel("new", "text_embedding", {"id": "new"}, added=True),
        StoredModel("new", "text_embedding", {"id": "new", "hf_model": "a/b", "future": 1}, added=True),
        StoredModel("new", "speech", {"id": "new", "hf_model": "a/b", "default": True}, added=True),
    ],
)
def test_what_another_version_has_stored_does_not_stop_the_start(
    state: State, caplog: pytest.LogCaptureFixture, record: StoredModel
) -> None:
    state.store_models([record])
    inventory = Inventory(CONFIGURED, state)
    assert offered(inventory) == ["one*", "two", "(off)"]
    assert "model new, added at run time, is left out: this version cannot read its settings" in caplog.text
    inventory.change(inventory.catalogue.get("two"), {"default": True})
    assert record.id in {stored.id for stored in state.models()}, "a newer version may read it again"


def test_what_cannot_be_kept_is_not_done(state: State) -> None:
    inventory = Inventory(CONFIGURED, state)
    state._database.execute("PRAGMA query_only = ON")
    for change in (
        lambda: inventory.add("text_embedding", entry("new", default=True)),
        lambda: inventory.change(inventory.catalogue.get("two"), {"default": True}),
        lambda: inventory.remove(inventory.catalogue.get("one")),
    ):
        with pytest.raises(ResourceExhausted, match="Nothing was changed"):
            change()
        assert offered(inventory) == ["one*", "two", "(off)"]
    state._database.execute("PRAGMA query_only = OFF")
    inventory.add("text_embedding", entry("new"))
    assert offered(inventory) == ["one*", "two", "(off)", "new"]


# --- where an added model may be


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder, a folder from which models may be added, and one from which not, each with models in it."""
    for place in ("models/org/by-hand", "models/flat", "root/mine", "outside/secret", "work/org/here"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (tmp_path / "root" / "empty").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "root" / "inner").symlink_to(tmp_path / "root" / "mine")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root" / "circle")
    (tmp_path / "root-beside").symlink_to(tmp_path / "outside")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    return tmp_path


def place(places: Path, hf_model: str) -> str:
    settings = configured(models_dir=places / "models", resources={"local_model_roots": [places / "root"]})
    return Inventory(settings, None).placed(hf_model.replace("@", str(places)))


@pytest.mark.parametrize("name", ["org/name", "name", "sentence-transformers/all-MiniLM-L6-v2", "org/by-hand", "flat"])
def test_a_hub_name_stays_as_it_is(places: Path, name: str) -> None:
    assert place(places, name) == name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("@/root/mine", "@/root/mine"),
        ("@/root/mine/", "@/root/mine"),
        ("@/root/inner", "@/root/mine"),
        ("@/outside/../root/mine", "@/root/mine"),
        ("../root/mine", "@/root/mine"),
        ("@/models/org/by-hand", "@/models/org/by-hand"),
    ],
)
def test_a_folder_within_the_roots_is_kept_as_it_really_is(places: Path, given: str, kept: str) -> None:
    assert place(places, given) == kept.replace("@", str(places))


@pytest.mark.parametrize(
    "given",
    [
        "@/outside/secret",
        "@/root/../outside/secret",
        "@/root/link",
        "@/root-beside/secret",
        "@/outside/nothing",
        "/etc",
        "/",
        "~/secret",
        "~nobody-of-this-name/x",
        "../outside/secret",
        "org/../../outside/secret",
        "org/here",  # a folder of the working directory
        "@/root/circle",
    ],
)
def test_a_folder_outside_is_refused_without_a_word_about_what_is_there(places: Path, given: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        place(places, given)
    assert "hf_model: is not in a folder from which models may be added" in raised.value.message
    assert str(places) not in raised.value.message


@pytest.mark.parametrize("given", ["@/root/empty", "@/root/nothing", "@/root", "@/root/mine/config.json"])
def test_a_folder_without_a_model_is_refused(places: Path, given: str) -> None:
    says = "is not there" if given.endswith("nothing") else "holds no model"
    with pytest.raises(InvalidRequest, match=says):
        place(places, given)


NEITHER = ["a/b/c", "./org/here", "org/na me", "org/", "/".join(["x"] * 50), "-org/x", "org/x--y", "naïve"]


@pytest.mark.parametrize("given", NEITHER)
def test_what_is_neither_is_refused(places: Path, given: str) -> None:
    with pytest.raises(InvalidRequest, match=r"neither a name on the hub|not in a folder|is not there"):
        place(places, given)


def test_the_roots_may_be_links_themselves(places: Path) -> None:
    (places / "alias").symlink_to(places / "root")
    settings = configured(models_dir=places / "models", resources={"local_model_roots": [places / "alias"]})
    assert Inventory(settings, None).placed(str(places / "alias" / "mine")) == str(places / "root" / "mine")
    assert os.path.realpath(places / "alias") == str(places / "root")


def test_what_is_there_outside_is_not_told_by_the_words(places: Path) -> None:
    (places / "models" / "models--org--a").mkdir()
    said = set()
    for where in ("secret", "nothing"):
        with pytest.raises(InvalidRequest) as raised:
            place(places, f"models--org--a/../../outside/{where}")
        said.add(raised.value.message)
    assert len(said) == 1


def test_a_part_of_a_download_is_no_model_of_its_own(places: Path) -> None:
    snapshot = places / "models" / "models--org--a" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    for given in (str(snapshot), "models--org--a/snapshots/abc"):
        with pytest.raises(InvalidRequest, match="a part of a download"):
            place(places, given)


def test_a_change_of_something_else_leaves_the_default_where_it_is(state: State) -> None:
    inventory = Inventory(configured(), state)
    for name in ("a", "b"):
        inventory.add("text_embedding", entry(name))
    inventory.change(inventory.catalogue.get("a"), {"keep_alive_minutes": 5.0})
    assert offered(inventory) == ["a*", "b"]


def test_what_is_left_out_decides_nothing(state: State) -> None:
    Inventory(configured(), state).add("text_embedding", entry("x", default=True))
    later = configured({"id": "y", "hf_model": "org/y", "default": True}, {"id": "x", "hf_model": "org/x"})
    inventory = Inventory(later, state)
    assert offered(inventory) == ["y*", "x"]
    inventory.change(inventory.catalogue.get("x"), {"enabled": False})
    assert offered(Inventory(later, state)) == ["y*", "(x)"]
