"""Downloading a model from the hub: an engine module whose load is the download, in a process of its own.

Only this module speaks with the hub. What has come of a file is kept whatever happens, a `kill -9` or a day without a
network, and the next try asks for the rest: huggingface_hub's own downloads begin anew then, because each process has
temporary files of its own and deletes them when it fails. So the files are fetched here, into `blobs/<etag>.part` of
the hub's cache, and checked against what the hub announced before they get their names; the library then lays the
snapshot of links over them. While that is under way, `incomplete/<commit>` hides the snapshot from engines.
"""

import contextlib
import glob
import io
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Never, cast

import httpx2  # what huggingface_hub speaks HTTP with
from huggingface_hub import HfApi, constants, hf_hub_url, set_client_factory, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import default_client_factory

from homelab_ai.models.files import blobs, places
from homelab_ai.models.files.blobs import Blob, size_at
from homelab_ai.models.hosts.engine import Engine, LoadError, Report

_ROOM_LEFT_BYTES = 200_000_000
"""What a download leaves free on the disk, for the logs and the state of the service."""
_STALE_SECONDS = 24 * 3600
_UNAUTHORIZED = 401
_BYTES_PER_GB = 1_000_000_000  # as disks are sold, and as the hub shows sizes

# Read by the library at each use; this process does nothing but download.
constants.HF_HUB_DISABLE_XET = True  # plain HTTP can be resumed from a file
constants.DOWNLOAD_CHUNK_SIZE = 2**20  # what is lost with a connection, and how often progress is told


def load(options: dict[str, Any], report: Report) -> Engine:
    """Download the model `options["hf_model"]` in `options["revision"]` (None: the main branch) into `models_dir`.

    `options["reserved_bytes"]` is what other downloads under way will still take of the disk. Reports `bytes` that are
    here, those of earlier tries included, of `total_bytes`. Raises `LoadError`.
    """
    download = _Download(options, report)
    with download.failures_in_words():
        return download.carry_out()


class Downloaded:
    """A model that is wholly on this machine. There is nothing to run."""

    def __init__(self, commit: str, total_bytes: int) -> None:
        self._described = {"commit": commit, "bytes": total_bytes}

    def describe(self) -> dict[str, Any]:
        """Which commit it is, and how large."""
        return self._described

    def run(self, options: dict[str, Any], body: bytes) -> Never:
        """Raise `NotImplementedError`."""
        raise NotImplementedError("a download has nothing to run")


class _Download:
    """One download of one model."""

    def __init__(self, options: dict[str, Any], report: Report) -> None:
        self._model: str = options["hf_model"]
        self._revision: str = options["revision"] or places.DEFAULT_REVISION
        self._reserved_bytes: int = options["reserved_bytes"]
        self._models_dir = Path(options["models_dir"])
        self._cache = places.repository(self._model, self._models_dir)
        self._blobs = self._cache / "blobs"
        self._report = report
        self._here: dict[str, int] = {}
        """How many bytes there are of each file, by etag."""
        self._total = 0

    def carry_out(self) -> Downloaded:
        """Download what is missing."""
        ref = places.ref(self._cache, self._revision)
        if not places.is_hub_name(self._model):
            raise LoadError(places.no_hub_name(self._model))
        if not ref:
            raise LoadError(self._no_revision())
        commit, wanted = self._announced()
        by_etag = {file.etag: file for file in wanted}
        self._total = sum(file.size for file in by_etag.values())
        if not self._is_complete(commit, wanted):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._remove_stale(by_etag)
            self._here = {etag: self._bytes_here(file) for etag, file in by_etag.items()}
            self._check_room()
            self._arrived()
            marker = places.marker(self._cache, commit)
            marker.parent.mkdir(exist_ok=True)
            marker.touch()
            for file in sorted(by_etag.values(), key=lambda file: file.size):
                self._fetch(file, commit)
            self._lay_snapshot(commit, wanted)
            marker.unlink(missing_ok=True)  # another process may have been at it too
        # At the very end: until then, a branch that has moved is still what it was.
        if not places.is_commit(self._revision):
            _write_atomically(ref, commit)
        self._report({"bytes": self._total, "total_bytes": self._total})
        return Downloaded(commit, self._total)

    def _announced(self) -> tuple[str, list[Blob]]:
        """Ask the hub which commit is meant, and which files there are that we want."""
        set_client_factory(_client)
        api = HfApi()
        try:
            commit = _commit(api.model_info(self._model, revision=self._revision).sha)
            tree = api.list_repo_tree(self._model, revision=commit, recursive=True)
            there = {entry.path: _blob(entry) for entry in tree if isinstance(entry, RepoFile)}
        except HfHubHTTPError:  # some are a ValueError too
            raise
        except (httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(
                "what answers in the hub's place does not speak its language: check the network (a login page?) and "
                f"HF_ENDPOINT, {places.by_hand(self._model)}"
            ) from error
        return commit, [there[path] for path in places.worth_downloading(sorted(there))]

    def _is_complete(self, commit: str, wanted: list[Blob]) -> bool:
        return not places.marker(self._cache, commit).exists() and self._holds(commit, wanted)

    def _holds(self, commit: str, wanted: list[Blob]) -> bool:
        folder = places.snapshot(self._cache, commit)
        return all(size_at(folder / file.path) == file.size for file in wanted)

    def _bytes_here(self, file: Blob) -> int:
        if size_at(self._blobs / file.etag) == file.size:
            return file.size
        part = size_at(self._part(file)) or 0
        return part if part <= file.size else 0

    def _part(self, file: Blob) -> Path:
        return self._blobs / f"{file.etag}.part"

    def _remove_stale(self, wanted: Collection[str]) -> None:
        """Remove what earlier downloads have left and nobody will finish, ours or the library's."""
        before = time.time() - _STALE_SECONDS
        for left in (*self._blobs.glob("*.part"), *self._blobs.glob("*.incomplete")):
            with contextlib.suppress(FileNotFoundError):
                if left.name.partition(".")[0] not in wanted and left.stat().st_mtime < before:
                    left.unlink()

    def _check_room(self) -> None:
        needed = self._total - sum(self._here.values())
        free = shutil.disk_usage(self._models_dir).free
        if needed and needed + self._reserved_bytes + _ROOM_LEFT_BYTES > free:
            others = f", of which other downloads will take {_gb(self._reserved_bytes)}" if self._reserved_bytes else ""
            raise LoadError(
                f"{self._model} needs {_gb(needed)} more in the models folder, where {_gb(free)} are free{others}; "
                f"{_gb(_ROOM_LEFT_BYTES)} have to stay free"
            )

    def _fetch(self, file: Blob, commit: str) -> None:
        """Have the whole file among the blobs, as announced."""
        blob, path = self._blobs / file.etag, self._part(file)
        while size_at(blob) != file.size:
            with blobs.alone(path, lambda size: self._arrived(file, size)) as part:
                if not part:
                    continue
                if size_at(blob) == file.size:  # it was finished between the two looks
                    path.unlink()
                    break
                self._fill(part, file, commit)
                os.fsync(part.fileno())  # a name that outlives a power cut must not stand for half a file
                path.replace(blob)
        self._arrived(file, file.size)

    def _fill(self, part: io.FileIO, file: Blob, commit: str) -> None:
        """Download the rest of the file, and check the whole."""
        if blobs.size_of(part) > file.size:
            part.truncate(0)
        for _ in range(2):
            with contextlib.suppress(blobs.TooLongError):
                self._download_rest(part, file, commit)
                if file.is_in(part):
                    return
            part.truncate(0)
            self._arrived(file, 0)
        self._part(file).unlink(missing_ok=True)
        raise LoadError(f"{file.path} of {self._model} is not what the hub announced, after two tries: try again later")

    def _download_rest(self, part: io.FileIO, file: Blob, commit: str) -> None:
        url = hf_hub_url(self._model, file.path, revision=commit)
        # Compressed, a part of the file could not be asked for.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        while True:
            start = part.seek(0, os.SEEK_END)
            if start == file.size:
                return
            try:
                http_get(
                    url,
                    cast("BinaryIO", blobs.Part(part, file.size, lambda size: self._arrived(file, size))),
                    resume_size=start,
                    headers=headers,
                    displayed_filename=file.path,
                )
            except httpx2.ReadError:  # the connection was reset, which `http_get` does not try again
                if part.tell() == start:
                    raise
            except OSError as error:
                if error.errno in blobs.DISK_FULL:
                    self._part(file).unlink(missing_ok=True)  # there would be no room to finish it either
                if error.errno or isinstance(error, HfHubHTTPError):
                    raise
                return  # it is not as long as the answer said that it would be: what has come is judged above
            else:
                return

    def _lay_snapshot(self, commit: str, wanted: list[Blob]) -> None:
        for file in wanted:
            link = places.snapshot(self._cache, commit) / file.path
            if size_at(link) != file.size:  # what another program has left; the library would take it as it is
                link.unlink(missing_ok=True)
        exactly = [glob.escape(file.path) for file in wanted]
        snapshot_download(self._model, revision=commit, cache_dir=self._models_dir, allow_patterns=exactly)
        if not self._holds(commit, wanted):
            raise LoadError(f"{self._model} is not what the hub announced: try again later")

    def _arrived(self, file: Blob | None = None, size: int = 0) -> None:
        if file:
            self._here[file.etag] = size
        self._report({"bytes": sum(self._here.values()), "total_bytes": self._total})

    def _no_revision(self) -> str:
        return f"{self._model} has no revision {self._revision} on the hub"

    @contextlib.contextmanager
    def failures_in_words(self) -> Iterator[None]:
        """Say what went wrong without a path of this machine."""
        model, by_hand = self._model, places.by_hand(self._model)
        try:
            yield
        except GatedRepoError as error:
            raise LoadError(
                f"{model} needs permission: accept its licence on the hub and set HF_TOKEN, {by_hand}"
            ) from error
        except RepositoryNotFoundError as error:
            raise LoadError(f"the hub has no model {model} (if it is a private one, set HF_TOKEN)") from error
        except RevisionNotFoundError as error:
            raise LoadError(self._no_revision()) from error
        except OfflineModeIsEnabled as error:
            raise LoadError(
                f"{model} is not on this machine and downloads are off (HF_HUB_OFFLINE): unset that, {by_hand}"
            ) from error
        except (httpx2.RequestError, LocalEntryNotFoundError) as error:
            if self._total:
                raise LoadError(
                    f"the connection to the hub broke off; what has come of {model} is kept, and the next try goes on "
                    "from there"
                ) from error
            raise LoadError(
                f"{model} is not on this machine and the hub cannot be reached: check the network, {by_hand}"
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            token = ": it does not accept the token (HF_TOKEN)" if status == _UNAUTHORIZED else ""
            raise LoadError(f"the hub refused to hand out {model} (HTTP {status}){token}") from error
        except OSError as error:
            if error.errno in blobs.DISK_FULL:
                raise LoadError(
                    f"{model} could not be stored: the disk is full that holds the models folder"
                ) from error
            raise LoadError(
                f"{model} could not be stored in the models folder: {error.strerror or type(error).__name__}"
            ) from error


def _client() -> httpx2.Client:
    """The library's own client, except that it waits for no answer without end; for a part of its calls, it would."""

    def limit(request: httpx2.Request) -> None:
        if not any((request.extensions.get("timeout") or {}).values()):
            request.extensions = {
                **request.extensions,
                "timeout": httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT).as_dict(),
            }

    client = default_client_factory()
    client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], limit]}
    return client


def _blob(file: RepoFile) -> Blob:
    if file.lfs:
        return Blob(file.path, file.lfs.size, file.lfs.sha256, in_lfs=True)
    return Blob(file.path, file.size, file.blob_id, in_lfs=False)


def _commit(sha: str | None) -> str:
    if not sha or not places.is_commit(sha):  # it becomes part of a path
        raise ValueError("no commit")
    return sha


def _write_atomically(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    new.write_text(text)
    new.replace(file)


def _gb(size: int) -> str:
    figure = size / _BYTES_PER_GB
    return f"{figure:.1f} GB" if figure >= 1 else f"{figure:.3f} GB"
