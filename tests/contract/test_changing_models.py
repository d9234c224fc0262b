"""Models added, changed and removed over HTTP: what is answered, what is refused, and what a restart finds."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.answers import bearer, key_entry, refused, serving
from homelab_ai.models.hosts.host import HostLoadFailed
from homelab_ai.settings import Settings
from support.hosts import FakeHosts

NEW = {"type": "text_embedding", "id": "new", "hf_model": "org/new"}


def ids(client: TestClient) -> list[str]:
    return [model["id"] for model in client.get("/api/models").json()["models"]]


def default(client: TestClient) -> str:
    answer = client.post("/api/embed", json={"texts": ["a"]})
    assert answer.status_code == 200
    model_id: str = answer.json()["model_used"]
    return model_id


def test_an_added_model_is_answered_as_it_is_shown_and_serves_at_once(client: TestClient) -> None:
    given = {
        **NEW,
        "aliases": ["neu", "text-embedding-3-small"],
        "dimensions": 8,
        "keep_alive_minutes": 0.5,
        "revision": "v1",
        "max_length": 77,
    }
    response = client.post("/api/models", json=given)
    assert response.status_code == 201
    assert response.headers["Location"] == "/api/models/new"
    answer = response.json()
    assert answer == client.get(response.headers["Location"]).json()
    assert {name: answer[name] for name in given if name in answer} == {
        name: value for name, value in given.items() if name != "keep_alive_minutes"
    }
    assert (answer["keep_alive_seconds"], answer["state"], answer["default"]) == (30, "available", False)
    assert client.post("/api/embed", json={"texts": ["a"], "model": "neu"}).json()["model_used"] == "new"


def test_below_a_prefix_the_location_has_it(settings: Settings) -> None:
    with serving(settings, server={"root_path": "/ai"}) as client:
        assert client.post("/ai/api/models", json=NEW).headers["Location"] == "/ai/api/models/new"


def test_changes_outlive_a_restart(settings: Settings) -> None:
    with serving(settings) as client:
        client.post("/api/models", json={**NEW, "default": True})
        client.patch("/api/models/mpnet", json={"enabled": True, "keep_alive_minutes": 2})
        assert client.delete("/api/models/minilm").json() == {"id": "minilm", "purged_bytes": 0}
    with serving(settings) as client:
        assert ids(client) == ["blip-base", "llava", "mpnet", "new"]
        assert default(client) == "new"
        mpnet = client.get("/api/models/mpnet").json()
        assert (mpnet["enabled"], mpnet["keep_alive_seconds"]) == (True, 120)
        refused(client.get("/api/models/minilm"), 404, "MODEL_NOT_FOUND")
        minilm = {"type": "text_embedding", "id": "minilm", "hf_model": "sentence-transformers/all-MiniLM-L6-v2"}
        assert client.post("/api/models", json=minilm).status_code == 201
        assert client.delete("/api/models/new").status_code == 200
    with serving(settings) as client:
        assert sorted(ids(client)) == ["blip-base", "llava", "minilm", "mpnet"]


def test_the_default_model_can_be_changed_and_changed_back(client: TestClient) -> None:
    client.post("/api/models", json=NEW)
    assert default(client) == "minilm"
    answer = client.patch("/api/models/new", json={"default": True})
    assert (answer.status_code, answer.json()["default"], default(client)) == (200, True, "new")
    assert client.get("/api/models/minilm").json()["default"] is False
    client.patch("/api/models/minilm", json={"default": True})
    assert default(client) == "minilm"
    client.delete("/api/models/minilm")
    assert default(client) == "new"


def test_a_disabled_model_can_be_enabled_and_is_refused_until_then(client: TestClient) -> None:
    error = refused(client.post("/api/embed", json={"texts": ["a"], "model": "mpnet"}), 409, "MODEL_NOT_LOADED")
    assert "PATCH /api/models/mpnet" in error["message"]
    client.patch("/api/models/mpnet", json={"enabled": True})
    assert client.post("/api/embed", json={"texts": ["a"], "model": "mpnet"}).status_code == 200
    client.patch("/api/models/mpnet", json={"enabled": False})
    refused(client.post("/api/embed", json={"texts": ["a"], "model": "mpnet"}), 409, "MODEL_NOT_LOADED")


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "id", "is required"),
    "no type": ({"type": None}, "type", "expected 'text_embedding' or 'image_caption'"),
    "an unknown type": ({"type": "speech"}, "type", "expected 'text_embedding' or 'image_caption'"),
    "an id with a path": ({"id": "../new"}, "id", "letters, digits"),
    "an id with a slash": ({"id": "org/new"}, "id", "letters, digits"),
    "an empty id": ({"id": ""}, "id", "letters, digits"),
    "a long id": ({"id": "n" * 65}, "id", "at most 64"),
    "an id with a line break": ({"id": "new\n"}, "id", "letters, digits"),
    "no name": ({"hf_model": ""}, "hf_model", "text on one line"),
    "a number as name": ({"hf_model": 7}, "hf_model", "text"),
    "a url": ({"hf_model": "https://example.com/model"}, "hf_model", "neither a name on the hub"),
    "a folder elsewhere": ({"hf_model": "/etc"}, "hf_model", "resources.local_model_roots"),
    "a folder at home": ({"hf_model": "~/models"}, "hf_model", "resources.local_model_roots"),
    "a way out": ({"hf_model": "../../etc"}, "hf_model", "resources.local_model_roots"),
    "a wrong alias": ({"aliases": ["good", "b\0d"]}, "aliases[1]", "expected"),
    "aliases in one string": ({"aliases": "neu"}, "aliases", "expected a list"),
    "an alias of its own": ({"aliases": ["neu", "NEU"]}, "aliases[1]", "the same name as aliases[0]"),
    "its own id as alias": ({"aliases": ["NEW"]}, "aliases[0]", "the same name as id"),
    "a negative keep-alive": ({"keep_alive_minutes": -3}, "keep_alive_minutes", "-1 for never"),
    "a text as a number": ({"dimensions": "384"}, "dimensions", "expected a whole number"),
    "a number as a switch": ({"enabled": 1}, "enabled", "expected true or false"),
    "a disabled default": ({"enabled": False, "default": True}, "default", "must be enabled"),
    "a misspelt field": ({"hf_modle": "x"}, "hf_modle", "is not a field"),
    "what comes later": ({"prompts": {"query": "q: "}}, "prompts", "has no effect in this version"),
    "what only others have": (
        {"type": "image_caption", "dimensions": 3},
        "dimensions",
        "not a setting of models of the type image_caption",
    ),
}


@pytest.mark.parametrize(("change", "field", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_new_model_is_named(
    client: TestClient, change: dict[str, Any], field: str, message: str
) -> None:
    before = ids(client)
    error = refused(client.post("/api/models", json={**NEW, **change} if change else {}), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == field
    assert message in error["details"]["errors"][0]["message"]
    assert ids(client) == before


@pytest.mark.parametrize("name", ["minilm", "MiniLM", "blip-base"])
def test_a_name_that_is_taken_is_a_conflict(client: TestClient, name: str) -> None:
    error = refused(client.post("/api/models", json={**NEW, "id": name}), 409, "CONFLICT")
    assert error["details"] == {"field": "id", "model_id": name.lower()}
    error = refused(client.post("/api/models", json={**NEW, "aliases": [name]}), 409, "CONFLICT")
    assert error["details"] == {"field": "aliases", "model_id": name.lower()}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"default": False}, "default"),
        ({"enabled": "no"}, "enabled"),
        ({"keep_alive_minutes": -2}, "keep_alive_minutes"),
        ({"hf_model": "org/other"}, "hf_model"),
        ({"id": "other"}, "id"),
        ({"enabled": False, "default": True}, "default"),
        ([], "body"),
    ],
)
def test_what_is_wrong_with_a_change_is_named(client: TestClient, body: Any, field: str) -> None:
    before = client.get("/api/models").json()
    error = refused(client.patch("/api/models/minilm", json=body), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == field
    assert client.get("/api/models").json() == before


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("name", ["nope", "..", "%2e%2e%2fetc", "minilm/", "new%00"])
def test_what_is_not_there_is_neither_changed_nor_removed(client: TestClient, method: str, name: str) -> None:
    before = ids(client)
    body = {"json": {"default": True}} if method == "PATCH" else {}
    response = client.request(method, f"/api/models/{name}", **body)  # type: ignore[arg-type]
    assert response.json()["error"]["code"] in {"MODEL_NOT_FOUND", "METHOD_NOT_ALLOWED", "NOT_FOUND"}
    assert ids(client) == before


def test_a_model_is_removed_by_its_id_or_alias_only(client: TestClient) -> None:
    """A client that tries again must not remove another one that is called so less exactly."""
    client.post("/api/models", json={**NEW, "aliases": ["neu"]})
    error = refused(client.delete("/api/models/org/new"), 404, "MODEL_NOT_FOUND")
    assert "what is called so is 'new'" in error["message"]
    assert client.delete("/api/models/NEU").json()["id"] == "new"


def test_removing_all_models_leaves_a_service_that_says_so(client: TestClient) -> None:
    for model_id in ids(client):
        assert client.delete(f"/api/models/{model_id}").status_code == 200
    assert ids(client) == []
    refused(client.post("/api/embed", json={"texts": ["a"]}), 404, "MODEL_NOT_FOUND")
    assert client.get("/ready").status_code == 200


def test_a_key_that_may_use_some_models_may_use_one_that_is_added_under_that_name(settings: Settings) -> None:
    keys = [key_entry("app", "app", "embed", models=["new"]), key_entry("root", "root", "admin")]
    with serving(settings, security={"api_keys": keys}) as client:
        ask = {"texts": ["a"], "model": "new"}
        refused(client.post("/api/embed", json=ask, headers=bearer("app")), 404, "MODEL_NOT_FOUND")
        assert client.post("/api/models", json=NEW, headers=bearer("root")).status_code == 201
        assert client.post("/api/embed", json=ask, headers=bearer("app")).status_code == 200
        other = {**NEW, "id": "other"}
        assert client.post("/api/models", json=other, headers=bearer("root")).status_code == 201
        refused(client.post("/api/embed", json={**ask, "model": "other"}, headers=bearer("app")), 403, "FORBIDDEN")


def test_a_folder_within_a_root_is_served_without_its_place_being_told(settings: Settings, tmp_path: Path) -> None:
    hosts, folder = FakeHosts(), tmp_path / "root" / "mine"
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text("[]")
    with serving(settings, hosts, resources={"local_model_roots": [tmp_path / "root"]}) as client:
        response = client.post("/api/models", json={**NEW, "hf_model": str(folder)})
        assert (response.status_code, response.json()["hf_model"]) == (201, "mine")
        assert str(tmp_path) not in response.text
        client.post("/api/embed", json={"texts": ["a"], "model": "new"})
    assert hosts.started[0].plan.options["hf_model"] == str(folder)


# --- downloads


def followed(client: TestClient, name: str = "new") -> str:
    response = client.get(f"/api/models/{name}/pull")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    return response.text


def test_a_pull_is_accepted_and_can_be_followed_to_its_end(settings: Settings) -> None:
    hosts = FakeHosts()
    with serving(settings, hosts) as client:
        client.post("/api/models", json=NEW)
        refused(client.get("/api/models/new/pull"), 409, "CONFLICT")
        answer = client.post("/api/models/org/new/pull")
        assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (202, "new", "downloading")
        assert followed(client).endswith(
            'event: done\ndata: {"state":"done","bytes":0,"total_bytes":null,"seconds_left":null,"failure":null}\n\n'
        )
        assert client.get("/api/models/new").json()["download"]["state"] == "done"
        hosts.on_download = lambda plan: HostLoadFailed("the hub\nis away")
        client.post("/api/models/new/pull")
        assert '"failure":"the hub\\nis away"' in followed(client)
        assert client.get("/api/models/new").json()["state"] == "available"


def test_a_model_can_be_added_and_pulled_at_once(settings: Settings) -> None:
    hosts = FakeHosts()
    with serving(settings, hosts) as client:
        assert client.post("/api/models", json={**NEW, "revision": "v2", "pull": True}).json()["state"] == "downloading"
        assert "event: done" in followed(client)
        assert client.get("/api/models/new").json()["loads"] == 0
    assert [plan.options["revision"] for plan in hosts.downloads] == ["v2"]


def test_what_cannot_be_pulled_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    with serving(settings) as client:
        for method in ("GET", "POST"):
            refused(client.request(method, "/api/models/nope/pull"), 404, "MODEL_NOT_FOUND")
        folder = {**NEW, "hf_model": str(tmp_path / "models" / "mine")}
        error = refused(client.post("/api/models", json={**folder, "pull": True}), 400, "INVALID_REQUEST")
        assert error["details"]["errors"][0]["field"] == "pull"
        refused(client.get("/api/models/new"), 404, "MODEL_NOT_FOUND")
        client.post("/api/models", json=folder)
        error = refused(client.post("/api/models/new/pull"), 409, "CONFLICT")
        assert "a folder of this machine" in error["message"]


def test_files_are_purged_only_when_no_other_model_has_them(settings: Settings, tmp_path: Path) -> None:
    blobs = tmp_path / "models" / "models--org--new" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "some").write_bytes(b"123")
    with serving(settings) as client:
        client.post("/api/models", json=NEW)
        client.post("/api/models", json={**NEW, "id": "twin"})
        error = refused(client.delete("/api/models/twin?purge=true"), 409, "CONFLICT")
        assert error["details"] == {"model_id": "new"}
        error = refused(client.delete("/api/models/twin?purge=perhaps"), 400, "INVALID_REQUEST")
        assert error["details"]["errors"][0]["field"] == "purge"
        assert client.delete("/api/models/twin").json() == {"id": "twin", "purged_bytes": 0}
        assert client.delete("/api/models/new?purge=true").json() == {"id": "new", "purged_bytes": 3}
    assert not blobs.exists()
