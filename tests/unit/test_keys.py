"""API keys: the one that a first start makes, and what is kept of any."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_ai.api.keys import (
    ALL_SCOPES,
    NOBODY,
    Identity,
    KeyRing,
    hash_key,
    make_first_key,
    make_key,
    remove_key,
)
from homelab_ai.errors import Conflict, NotFound, ResourceExhausted
from homelab_ai.settings import ALL_BUT_ADMIN, SecuritySettings
from homelab_ai.state import State, StateError, StoredKey


def security(**given: object) -> SecuritySettings:
    return SecuritySettings.model_validate(given)


CONFIGURED = {"name": "app", "key_hash": hash_key(b"configured")}


def first_key(settings: SecuritySettings, state: State) -> str | None:
    shown: list[str] = []
    make_first_key(settings, state, shown.append)
    return shown[0] if shown else None


def test_a_key_that_cannot_be_shown_is_not_stored(tmp_path: Path) -> None:
    def broken(key: str) -> None:
        raise BrokenPipeError

    state = State.open(tmp_path)
    with pytest.raises(BrokenPipeError):
        make_first_key(security(), state, broken)
    assert state.api_keys() == []
    state.close()


def test_a_first_start_makes_one_key_that_may_do_everything(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    key = first_key(security(), state)
    assert key
    assert key.startswith("hlab_")
    assert len(key) >= 48  # 256 random bits and the prefix
    identity = KeyRing(security(), state.api_keys()).identify(key.encode())
    assert identity
    assert identity.scopes == ALL_SCOPES
    assert first_key(security(), state) is None
    state.close()


def test_two_first_starts_make_two_keys(tmp_path: Path) -> None:
    made = set()
    for name in ("one", "two"):
        state = State.open(tmp_path / name)
        made.add(first_key(security(), state))
        state.close()
    assert len(made) == 2


def test_no_key_is_made_where_none_is_needed(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    assert first_key(security(auth_enabled=False), state) is None
    assert first_key(security(api_keys=[CONFIGURED]), state) is None
    assert state.api_keys() == []
    state.add_api_key(StoredKey("earlier", hash_key(b"earlier"), ("read",)))
    assert first_key(security(), state) is None
    state.close()


def test_only_the_hash_of_a_key_is_stored(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    key = first_key(security(), state)
    assert key
    while_open = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    state.close()
    for content in (*while_open.values(), *(file.read_bytes() for file in tmp_path.iterdir())):
        assert key.encode() not in content
        assert key.removeprefix("hlab_").encode() not in content
    assert any(hash_key(key.encode()).encode() in content for content in while_open.values())


def test_a_key_is_hashed_as_a_shell_would_hash_it() -> None:
    assert hash_key(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert hash_key(b"") == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("key", ["", "configured ", "Configured", "configure", "\x00", "é", "ÿ" * 5000, "\udcff"])
def test_a_ring_knows_only_its_keys(key: str) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [StoredKey("stored", hash_key(b"stored"), ("read",))])
    assert ring.identify(key.encode(errors="surrogateescape")) is None


def test_a_ring_knows_keys_of_the_configuration_and_of_the_state() -> None:
    limited = {"name": "limited", "key_hash": hash_key(b"limited"), "scopes": ["embed"], "models": ["minilm"]}
    ring = KeyRing(
        security(api_keys=[CONFIGURED, limited]), [StoredKey("stored", hash_key(b"stored"), ("admin", "read"))]
    )
    app, some, stored = ring.identify(b"configured"), ring.identify(b"limited"), ring.identify(b"stored")
    assert app == Identity("app", frozenset(ALL_BUT_ADMIN))
    assert some == Identity("limited", frozenset({"embed"}), frozenset({"minilm"}))
    assert stored == Identity("stored", frozenset({"admin", "read"}))
    assert app.may_use("mpnet")
    assert some.may_use("minilm")
    assert not some.may_use("mpnet")


def test_an_empty_ring_knows_nobody_and_nobody_may_do_anything() -> None:
    assert KeyRing(security(), []).identify(b"anything") is None
    assert not NOBODY.scopes


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(tmp_path)
    yield state
    state.close()


def names(ring: KeyRing) -> list[tuple[str, str]]:
    return [(entry.identity.name, entry.source) for entry in ring.entries()]


def test_a_key_that_is_made_opens_the_door_now_and_after_a_restart(state: State) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [])
    key = make_key(ring, state, "photos", ["read", "embed"], models=("minilm",), rate_limit="5/minute")
    later = KeyRing(security(), state.api_keys())
    for each in (ring, later):
        assert each.identify(key.encode()) == Identity(
            "photos", frozenset({"embed", "read"}), frozenset({"minilm"}), "5/minute"
        )
    assert names(ring) == [("app", "config"), ("photos", "state")]
    assert key not in repr(ring.entries())
    assert hash_key(key.encode()) not in repr(ring.entries())


def test_a_key_that_is_removed_opens_nothing_from_then_on(state: State) -> None:
    ring = KeyRing(security(api_keys=[{**CONFIGURED, "scopes": ["admin"]}]), [])
    key, other = (make_key(ring, state, name, ALL_SCOPES) for name in ("one", "two"))
    remove_key(ring, state, "one", force=False)
    assert ring.identify(key.encode()) is None
    assert ring.identify(other.encode())
    assert [stored.name for stored in state.api_keys()] == ["two"]
    with pytest.raises(NotFound, match="'one'"):
        remove_key(ring, state, "one", force=True)


def test_names_are_unique_wherever_a_key_was_made(state: State) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [])
    make_key(ring, state, "photos", ["read"])
    for name, where in (("app", "config.yaml"), ("photos", "made at run time")):
        with pytest.raises(Conflict, match=where):
            make_key(ring, state, name, ["read"])
    assert [stored.name for stored in state.api_keys()] == ["photos"]


def test_a_key_of_the_configuration_is_removed_there(state: State) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [])
    with pytest.raises(Conflict, match=r"config\.yaml: remove it there"):
        remove_key(ring, state, "app", force=True)
    assert ring.identify(b"configured")


def test_the_last_key_that_may_change_things_is_removed_only_when_that_is_meant(state: State) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [])
    first = make_key(ring, state, "admin", ALL_SCOPES)
    with pytest.raises(Conflict, match="force=true"):
        remove_key(ring, state, "admin", force=False)
    assert ring.identify(first.encode())
    make_key(ring, state, "second", ["admin"])
    remove_key(ring, state, "admin", force=False)
    remove_key(ring, state, "second", force=True)
    assert names(ring) == [("app", "config")]


def test_nobody_is_told_of_a_key_that_could_not_be_kept(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StateError("disk is full")

    ring = KeyRing(security(), [])
    key = make_key(ring, state, "old", ALL_SCOPES)
    monkeypatch.setattr(State, "add_api_key", full)
    monkeypatch.setattr(State, "remove_api_key", full)
    with pytest.raises(ResourceExhausted, match="No key was made"):
        make_key(ring, state, "new", ["read"])
    with pytest.raises(ResourceExhausted, match="was not removed"):
        remove_key(ring, state, "old", force=True)
    assert names(ring) == [("old", "state")]
    assert ring.identify(key.encode())


def test_a_configuration_that_is_read_anew_changes_its_keys_at_once_and_no_others(
    state: State, log: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [])
    made = make_key(ring, state, "photos", ["read"])
    ring.follow(security(api_keys=[{"name": "new", "key_hash": hash_key(b"new")}]))
    assert ring.identify(b"configured") is None
    assert ring.identify(b"new")
    assert ring.identify(made.encode())
    assert not log.records
    ring.follow(security(api_keys=[{"name": "photos", "key_hash": hash_key(b"mine"), "scopes": ["embed"]}]))
    assert ring.identify(made.encode()) is None, "the configuration wins"
    assert "'photos', made at run time, opens nothing" in log.text
    assert names(ring) == [("photos", "config")]
    ring.follow(security(api_keys=[{"name": "same", "key_hash": hash_key(made.encode()), "scopes": ["embed"]}]))
    identity = ring.identify(made.encode())
    assert identity
    assert identity.name == "same"


def test_when_a_key_was_last_shown_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(security(api_keys=[CONFIGURED]), [StoredKey("stored", hash_key(b"stored"), (), created_at=5)])
    monkeypatch.setattr("time.time", lambda: 1000.0)
    ring.identify(b"configured")
    ring.identify(b"wrong")
    assert [(entry.created_at, entry.last_used_at) for entry in ring.entries()] == [(None, 1000.0), (5, None)]
