"""API keys: the one that a first start makes, and what is kept of any."""

import hashlib
from pathlib import Path

import pytest

from homelab_ai.api.keys import ALL_SCOPES, NOBODY, Identity, KeyRing, hash_key, make_first_key
from homelab_ai.settings import ALL_BUT_ADMIN, SecuritySettings
from homelab_ai.state import State, StoredKey


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
