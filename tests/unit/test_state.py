"""The state file: what survives a restart, who may open it, and what is said when it cannot be used."""

import gc
import sqlite3
import stat
from functools import partial
from pathlib import Path

import psutil
import pytest

from homelab_ai import state as module
from homelab_ai.state import State, StateError, StoredKey

KEYS = [
    StoredKey("one", "1" * 64, ("admin", "read")),
    StoredKey("two", "2" * 64, (), models=("minilm", "a b"), rate_limit="5/minute"),
]


def filled(folder: Path) -> Path:
    """Return the file of a closed state that holds the keys."""
    state = State.open(folder)
    for key in KEYS:
        state.add_api_key(key)
    state.close()
    return folder / "state.db"


def reopened(folder: Path) -> list[StoredKey]:
    state = State.open(folder)
    state.check()
    keys = state.api_keys()
    state.close()
    return keys


def test_a_new_state_is_empty_and_makes_its_folder(tmp_path: Path) -> None:
    assert reopened(tmp_path / "a" / "b") == []


def test_keys_survive_in_their_order(tmp_path: Path) -> None:
    filled(tmp_path)
    assert reopened(tmp_path) == KEYS


def test_keys_survive_a_process_that_never_closed_it(tmp_path: Path) -> None:
    state = State.open(tmp_path / "killed")
    state.add_api_key(KEYS[0])
    copy = tmp_path / "after"
    copy.mkdir()
    for file in (tmp_path / "killed").iterdir():  # what a power cut would leave
        (copy / file.name).write_bytes(file.read_bytes())
    assert reopened(copy) == KEYS[:1]
    state.close()


def test_a_removed_key_stays_away_and_its_name_is_free_again(tmp_path: Path) -> None:
    filled(tmp_path)
    state = State.open(tmp_path)
    state.remove_api_key("one")
    state.remove_api_key("no such key")
    state.close()
    assert reopened(tmp_path) == KEYS[1:]
    state = State.open(tmp_path)
    again = StoredKey("one", "1" * 64, (), created_at=KEYS[1].created_at + 5.5)
    state.add_api_key(again)
    assert [key.created_at for key in state.api_keys()] == [KEYS[1].created_at, again.created_at]
    state.close()


def test_keys_of_the_version_that_knew_no_models_and_limits_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MIGRATIONS", module._MIGRATIONS[:3])
    State.open(tmp_path).close()
    database = sqlite3.connect(tmp_path / "state.db")
    with database:
        database.execute("INSERT INTO api_keys VALUES ('old', ?, 'read admin', 1.5)", ("0" * 64,))
    database.close()
    monkeypatch.undo()
    (key,) = reopened(tmp_path)
    assert key == StoredKey("old", "0" * 64, ("read", "admin"))
    assert key.created_at == 1.5


@pytest.mark.parametrize("again", [StoredKey("one", "9" * 64, ()), StoredKey("other", "1" * 64, ())])
def test_a_name_or_hash_is_not_taken_twice(tmp_path: Path, again: StoredKey) -> None:
    filled(tmp_path)
    state = State.open(tmp_path)
    with pytest.raises(StateError, match=again.name):
        state.add_api_key(again)
    assert state.api_keys() == KEYS
    state.close()


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    first = State.open(tmp_path)
    with pytest.raises(StateError) as raised:
        State.open(tmp_path)
    assert "--workers" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    first.check()
    first.close()
    assert reopened(tmp_path) == []


def test_nobody_else_may_read_its_files(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.add_api_key(KEYS[0])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    state.close()
    assert {"state.db", "lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    for folder in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(StateError, match="data_dir") as raised:
            State.open(folder)
        assert str(folder) in str(raised.value)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StateError, match=r"state\.db"):
        State.open(tmp_path)


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = filled(tmp_path)
    database = sqlite3.connect(file)
    database.execute("PRAGMA user_version = 1000")
    database.close()
    with pytest.raises(StateError, match="newer version"):
        State.open(tmp_path)
    database = sqlite3.connect(file)
    assert database.execute("SELECT count(*) FROM api_keys").fetchone() == (2,)
    database.close()


@pytest.mark.parametrize(
    "damage", [b"this is no database, but long enough" * 200, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path, damage: bytes) -> None:
    file = filled(tmp_path)
    file.write_bytes(damage)
    for _ in range(2):  # the lock is let go of each time
        with pytest.raises(StateError, match="move it away"):
            State.open(tmp_path)
    file.unlink()
    assert reopened(tmp_path) == []


def test_a_refused_file_is_not_left_open(tmp_path: Path) -> None:
    filled(tmp_path).write_bytes(b"this is no database, but long enough" * 200)
    with pytest.raises(StateError) as raised:
        State.open(tmp_path)
    open_files = [file.path for file in psutil.Process().open_files()]
    assert str(raised.value)  # the error, which keeps the frames of the failed open alive, is still here
    assert not [path for path in open_files if str(tmp_path) in path]


def test_damage_that_shows_only_in_the_keys_is_told_as_plainly(tmp_path: Path) -> None:
    file = filled(tmp_path)
    with file.open("r+b") as pages:
        pages.seek(4096)  # the first page holds the schema; those after it the rows
        pages.write(b"\xff" * (file.stat().st_size - 4096))
    state = State.open(tmp_path)
    with pytest.raises(StateError):
        state.api_keys()
    with pytest.raises(StateError):
        state.check()
    state.close()


def test_no_other_program_writes_to_an_open_state(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    other = sqlite3.connect(tmp_path / "state.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("DROP TABLE api_keys")
    other.close()
    state.check()
    state.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_state_that_was_taken_away_fails_its_check_and_takes_nothing_more(tmp_path: Path, *, replaced: bool) -> None:
    filled(tmp_path)
    state = State.open(tmp_path)
    (tmp_path / "state.db").rename(tmp_path / "elsewhere")
    if replaced:
        (tmp_path / "state.db").write_bytes((tmp_path / "elsewhere").read_bytes())
    for attempt in (
        state.check,
        partial(state.add_api_key, StoredKey("three", "3" * 64, ())),
        partial(state.remove_api_key, "one"),
        partial(state.store_models, []),
        partial(state.remember_footprint, "minilm", 1, 0),
    ):
        with pytest.raises(StateError, match="replaced" if replaced else "no longer be read"):
            attempt()
    assert state.api_keys() == KEYS
    state.close()


def test_an_older_file_is_brought_up_to_date_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, "CREATE TABLE more (x INTEGER) STRICT;"))
    for _ in range(2):  # a migration runs once
        assert reopened(tmp_path) == KEYS
    monkeypatch.undo()
    with pytest.raises(StateError, match="newer version"):
        State.open(tmp_path)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    broken = "CREATE TABLE more (x INTEGER) STRICT; DROP TABLE api_keys; SELECT nonsense FROM nowhere;"
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, broken))
    with pytest.raises(StateError, match="nowhere"):
        State.open(tmp_path)
    monkeypatch.undo()
    gc.collect()
    assert reopened(tmp_path) == KEYS


def test_an_interrupted_first_start_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    assert reopened(tmp_path) == []
