"""What the service remembers between starts: one SQLite file in the data folder, and a lock on that folder.

`config.yaml` is the operator's and is never written; whatever is added at run time is kept here.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

# Each entry takes the file from one version (its position) to the next. Entries are only ever appended.
_MIGRATIONS = (
    """
    CREATE TABLE api_keys (
        name TEXT PRIMARY KEY,
        key_hash TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE footprints (
        model TEXT PRIMARY KEY,
        memory_bytes INTEGER NOT NULL,
        gpu_memory_bytes INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE models (
        id TEXT PRIMARY KEY COLLATE NOCASE,
        kind TEXT NOT NULL,
        settings TEXT NOT NULL,
        added INTEGER NOT NULL,
        hidden INTEGER NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE api_keys ADD COLUMN models TEXT;
    ALTER TABLE api_keys ADD COLUMN rate_limit TEXT;
    """,
)


class StateError(Exception):
    """The data folder cannot be used. The text says why and what mends it."""


@dataclass(frozen=True)
class StoredKey:
    """One API key, as far as it can be known: the key itself is not kept."""

    name: str
    key_hash: str
    """SHA-256 of the key, lower-case hex."""
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None = None
    """Ids of the models that it opens; `None` for all."""
    rate_limit: str | None = None
    """Its own limit, such as 600/minute."""
    created_at: float = field(default_factory=time.time, compare=False)
    """Seconds since 1970."""


@dataclass(frozen=True)
class StoredModel:
    """What was changed of one model at run time."""

    id: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of an added model all that was given, as in config.yaml; of one that config.yaml declares, what differs."""
    added: bool = False
    hidden: bool = False
    """Whether the model of this id that config.yaml declares is not offered."""


class State:
    """The open state. One process at a time; every method is quick and belongs to the event loop's thread."""

    def __init__(self, path: Path, lock: int) -> None:
        self._database = _open_database(path)
        self._path = path
        self._inode = path.stat().st_ino
        self._lock = lock

    @classmethod
    def open(cls, data_dir: Path) -> Self:
        """Open the state in this folder, making both when they are missing. Raises `StateError`."""
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            lock = _lock(data_dir)
        except OSError as error:
            raise StateError(
                f"The data folder {data_dir} cannot be used: {error.strerror}. Give this user write access to it, or "
                "name another one with `data_dir`."
            ) from error
        try:
            return cls(data_dir / "state.db", lock)
        except (sqlite3.Error, OSError) as error:
            os.close(lock)
            raise StateError(
                f"The state in {data_dir / 'state.db'} cannot be used: {error}. If the disk is full, make room; if "
                "the file is damaged, move it away (the keys and models added at run time are lost with it)."
            ) from error

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._database.close()
        os.close(self._lock)

    def check(self) -> None:
        """Raise `StateError` when the state cannot be read, or is no longer the file that was opened."""
        try:
            self._database.execute("SELECT 1 FROM api_keys LIMIT 1")
            lost = self._path.stat().st_ino != self._inode
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"The state can no longer be read ({type(error).__name__})") from error
        if lost:  # SQLite would go on writing to a file that has no name any more
            raise StateError("state.db has been replaced under the running service; restart it")

    @contextlib.contextmanager
    def _changed(self, what: str) -> Iterator[sqlite3.Connection]:
        """Keep for good all that is changed within, or none of it and raise `StateError`: `what`, and why."""
        self.check()
        try:
            with self._database:
                yield self._database
        except sqlite3.Error as error:
            raise StateError(f"{what}: {error}") from error

    def is_usable(self) -> bool:
        """Whether `check` finds nothing wrong."""
        try:
            self.check()
        except StateError:
            return False
        return True

    def api_keys(self) -> list[StoredKey]:
        """Return every key that was made at run time. Raises `StateError`."""
        try:
            rows = self._database.execute(
                "SELECT name, key_hash, scopes, models, rate_limit, created_at FROM api_keys ORDER BY created_at"
            )
            return [
                StoredKey(name, key_hash, tuple(scopes.split()), models and tuple(json.loads(models)), limit, created)
                for name, key_hash, scopes, models, limit, created in rows
            ]
        except (sqlite3.Error, ValueError) as error:
            raise StateError(f"The keys in state.db cannot be read: {error}") from error

    def add_api_key(self, key: StoredKey) -> None:
        """Store a key for good: once this returns, it survives the loss of power. Raises `StateError`."""
        models = None if key.models is None else json.dumps(key.models)
        with self._changed(f"The key {key.name!r} cannot be stored") as database:
            database.execute(
                "INSERT INTO api_keys (name, key_hash, scopes, models, rate_limit, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key.name, key.key_hash, " ".join(key.scopes), models, key.rate_limit, key.created_at),
            )

    def remove_api_key(self, name: str) -> None:
        """Forget a key for good, if there is one of this name. Raises `StateError`."""
        with self._changed(f"The key {name!r} cannot be removed") as database:
            database.execute("DELETE FROM api_keys WHERE name = ?", (name,))

    def models(self) -> list[StoredModel]:
        """Return what was changed of models at run time, in the order in which it was first. Raises `StateError`."""
        try:
            rows = self._database.execute("SELECT id, kind, settings, added, hidden FROM models ORDER BY rowid")
            return [
                StoredModel(model_id, kind, json.loads(settings), bool(added), bool(hidden))
                for model_id, kind, settings, added, hidden in rows
            ]
        except (sqlite3.Error, ValueError) as error:
            raise StateError(f"The models in state.db cannot be read: {error}") from error

    def store_models(self, models: Iterable[StoredModel]) -> None:
        """Put these in the place of all that are stored: once this returns, for good. Raises `StateError`."""
        rows = [(model.id, model.kind, json.dumps(dict(model.settings)), model.added, model.hidden) for model in models]
        with self._changed("The models cannot be stored") as database:
            database.execute("DELETE FROM models")
            database.executemany("INSERT INTO models VALUES (?, ?, ?, ?, ?)", rows)

    def footprints(self) -> dict[str, tuple[int, int]]:
        """Return what each model took when it was last measured: bytes of main memory and of GPU memory."""
        try:
            rows = self._database.execute("SELECT model, memory_bytes, gpu_memory_bytes FROM footprints").fetchall()
        except sqlite3.Error as error:
            raise StateError(f"The footprints in state.db cannot be read: {error}") from error
        return {model: (memory, gpu) for model, memory, gpu in rows}

    def remember_footprint(self, model: str, memory_bytes: int, gpu_memory_bytes: int) -> None:
        """Store what a model takes. Raises `StateError`."""
        with self._changed(f"The footprint of {model} cannot be stored") as database:
            row = (model, memory_bytes, gpu_memory_bytes)
            database.execute("INSERT OR REPLACE INTO footprints VALUES (?, ?, ?)", row)


def _lock(data_dir: Path) -> int:
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateError(
            f"Another process is already serving from the data folder {data_dir}. Stop it, or give this one a "
            "`data_dir` of its own. (With uvicorn, leave out --workers: one process uses all cores by itself.)"
        ) from None
    return lock


def _open_database(path: Path) -> sqlite3.Connection:
    # It holds hashes of keys: nobody else on this machine needs to read it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path)
    try:
        # The folder's lock leaves one process, so SQLite needs no memory shared between several: a file that ends this
        # process with SIGBUS when somebody cuts it short.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise StateError(f"The state in {path} was written by a newer version of this service. Install that one.")  # noqa: TRY301 - for the connection to be closed
        for number in range(version, len(_MIGRATIONS)):
            database.executescript(f"BEGIN; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
    except BaseException:
        database.close()
        raise
    return database
