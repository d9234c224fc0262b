"""`/api/keys`: keys are made, listed and revoked while the service runs."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from contract.answers import bearer, key_entry, refused, serving
from homelab_ai.settings import Settings

ADMIN = bearer("admin")
KEYS = [
    key_entry("boss", "admin", "admin", "read", crawl_allow_networks=["10.1.2.0/24"]),
    key_entry("app", "app", "embed", rate_limit="9/second"),
]


@pytest.fixture
def service(settings: Settings) -> Iterator[TestClient]:
    with serving(settings, security={"api_keys": KEYS}) as client:
        client.headers.update(ADMIN)
        yield client


def test_a_key_is_made_used_listed_and_revoked(service: TestClient) -> None:
    before = datetime.now(UTC)
    answer = service.post("/api/keys", json={"name": "photos"})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    key = made.pop("key")
    assert key.startswith("hlab_")
    assert before <= datetime.fromisoformat(made.pop("created_at")) <= datetime.now(UTC)
    assert made == {
        "name": "photos",
        "scopes": ["caption", "crawl", "embed", "read"],
        "models": None,
        "rate_limit": None,
        "crawl_allow_networks": [],
        "source": "state",
        "last_used_at": None,
    }

    assert service.get("/api/models", headers=bearer(key)).status_code == 200
    listed = service.get("/api/keys")
    assert [(each["name"], each["source"], each["rate_limit"]) for each in listed.json()["keys"]] == [
        ("boss", "config", None),
        ("app", "config", "9/second"),
        ("photos", "state", None),
    ]
    assert listed.json()["keys"][0]["created_at"] is None
    assert [each["crawl_allow_networks"] for each in listed.json()["keys"]] == [["10.1.2.0/24"], [], []]
    assert [bool(each["last_used_at"]) for each in listed.json()["keys"]] == [True, False, True]
    assert key not in listed.text
    assert "hash" not in listed.text

    assert service.delete("/api/keys/photos").status_code == 204
    refused(service.get("/api/models", headers=bearer(key)), 401, "UNAUTHORIZED")
    refused(service.delete("/api/keys/photos"), 404, "NOT_FOUND")


def test_what_a_key_opens_is_chosen_when_it_is_made(service: TestClient) -> None:
    wanted = {"name": "voice box / kitchen?", "scopes": ["embed"], "models": ["mpnet"], "rate_limit": "5/minute"}
    made = service.post("/api/keys", json=wanted).json()
    assert {name: made[name] for name in wanted} == wanted
    headers = bearer(made["key"])
    answer = service.post("/api/embed", json={"texts": ["a"], "model": "minilm"}, headers=headers)
    assert "may not use model" in refused(answer, 403, "FORBIDDEN")["message"]
    assert answer.headers["RateLimit-Limit"] == "5"
    assert refused(service.get("/api/models", headers=headers), 403, "FORBIDDEN")["details"] == {"scope": "read"}
    assert service.delete("/api/keys/voice%20box%20%2F%20kitchen%3F").status_code == 204


def test_keys_survive_a_restart(settings: Settings) -> None:
    with serving(settings, security={"api_keys": KEYS}) as client:
        wanted = {"name": "photos", "models": ["minilm"], "rate_limit": "5/minute"}
        key = client.post("/api/keys", json=wanted, headers=ADMIN).json()["key"]
        client.post("/api/keys", json={"name": "gone"}, headers=ADMIN)
        client.delete("/api/keys/gone", headers=ADMIN)
    with serving(settings, security={"api_keys": KEYS}) as client:
        assert client.get("/api/models", headers=bearer(key)).headers["RateLimit-Limit"] == "5"
        kept = client.get("/api/keys", headers=ADMIN).json()["keys"][2:]
        assert [(each["name"], each["models"], each["rate_limit"]) for each in kept] == [
            ("photos", ["minilm"], "5/minute")
        ]


def test_a_name_is_taken_once_and_keys_of_the_configuration_stay(service: TestClient) -> None:
    service.post("/api/keys", json={"name": "photos"})
    for name in ("photos", "app"):
        error = refused(service.post("/api/keys", json={"name": name}), 409, "CONFLICT")
        assert error["details"] == {"key": name}
    assert "config.yaml" in refused(service.delete("/api/keys/app"), 409, "CONFLICT")["message"]


def test_the_last_key_that_may_change_things_asks_for_more_than_a_slip(settings: Settings) -> None:
    with serving(settings, security={"allow_localhost": True, "api_keys": KEYS[1:]}) as client:
        client.post("/api/keys", json={"name": "only", "scopes": ["admin"]})
        assert "?force=true" in refused(client.delete("/api/keys/only"), 409, "CONFLICT")["message"]
        assert client.delete("/api/keys/only?force=true").status_code == 204


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " a"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": ".."}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["all"]}, "scopes[0]"),
        ({"name": "a", "scopes": "embed"}, "scopes"),
        ({"name": "a", "models": []}, "models"),
        ({"name": "a", "rate_limit": "5"}, "rate_limit"),
        ({"name": "a", "rate_limit": 5}, "rate_limit"),
        ({"name": "a", "key": "chosen"}, "key"),
        ({"name": "a", "key_hash": "0" * 64}, "key_hash"),
    ],
)
def test_what_a_key_may_not_be_is_said_by_field(service: TestClient, wrong: dict[str, object], field: str) -> None:
    error = refused(service.post("/api/keys", json=wrong), 400, "INVALID_REQUEST")
    assert error["details"]["errors"][0]["field"] == field
    assert len(service.get("/api/keys").json()["keys"]) == 2
