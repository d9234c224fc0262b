"""A small hub on loopback, speaking as much of huggingface.co's API as huggingface_hub asks for in a download.

Files of a megabyte and more are "in LFS": their content comes by a redirect from a second server, as from a CDN, and
that is where what goes wrong with a transfer goes wrong.
"""

import collections
import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

MB = 2**20
_LFS_BYTES = MB


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def etag(content: bytes) -> str:
    """The name of a file with that content in the cache."""
    return sha256(content) if len(content) >= _LFS_BYTES else git_blob(content)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer of the CDN."""

    cut_after: int | None = None
    """Close the connection after so many bytes."""
    reset_after: int | None = None
    """The same, but in the way of a router that has restarted."""
    pause_after: int | None = None
    """Set `Hub.paused` after so many bytes and go on when `Hub.resume` is set."""
    corrupt: bool = False
    """Change a byte."""
    longer: int = 0
    """Send more than there is."""
    ignore_range: bool = False
    """Answer 200 with the whole."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class _Repository:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)


class Hub:
    """Use it as a context manager; `environment` makes a child process ask it, and nobody else."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: collections.deque[Fault] = collections.deque()
        """Of the next answers of the CDN, one each."""
        self.always = Fault()
        """Of all other answers of the CDN."""
        self.hidden: set[str] = set()
        self.gated: set[str] = set()
        self.status: int | None = None
        """Answer all of the API with it."""
        self.page: bytes | None = None
        """Answer all of the API with it, as a network does that wants a login."""
        self.silent = False
        """Give no answer to anything of the API until `resume` is set."""
        self.paused, self.resume = threading.Event(), threading.Event()
        self._repositories: dict[str, _Repository] = {}
        self._content: dict[str, bytes] = {}
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(answer)) for answer in (_api, _cdn)]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.url)

    def push(self, name: str, files: dict[str, bytes], *, branch: str = "main") -> str:
        """Make a commit of these files, and the branch that commit."""
        listing = sorted((path, sha256(content)) for path, content in files.items())
        commit = hashlib.sha1(json.dumps([name, listing]).encode()).hexdigest()
        repository = self._repositories.setdefault(name, _Repository())
        repository.commits[commit] = files
        repository.refs[branch] = commit
        self._content |= {sha256(content): content for content in files.values()}
        return commit

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        """The requests whose path holds that."""
        return [request for request in self.requests if request.method == method and part in request.path]

    def transfers(self) -> list[str | None]:
        """The `Range` of each request for the content of a large file."""
        return [request.headers.get("range") for request in self.asked("/cdn/")]

    def _handler(self, answer: Any) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.requests.append(Request(self.command, self.path, headers))
                with contextlib.suppress(OSError):  # the client has gone
                    answer(hub, self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def environment(endpoint: str) -> dict[str, str]:
    """What a child process needs to ask that hub. It has no way to anywhere else: other addresses go to no proxy."""
    nowhere = "http://127.0.0.1:9"
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_of_the_test",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        **{name: nowhere for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY")},
    }


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", /, **headers: object) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(headers.pop("content_length", len(body))))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _api(hub: Hub, handler: BaseHTTPRequestHandler) -> None:  # noqa: PLR0911 - an answer each
    if hub.silent:
        hub.resume.wait(30)
    if hub.status:
        return _send(handler, hub.status)
    if hub.page:
        return _send(handler, 200, hub.page)
    path = urlsplit(handler.path).path
    name, verb, rest = _parsed(path)
    repository = hub._repositories.get(name)
    if not repository or name in hub.hidden:
        return _send(handler, 404, X_Error_Code="RepoNotFound")
    revision, _, file = rest.partition("/")
    revision = unquote(revision) or "main"
    commit = repository.refs.get(revision, revision)
    if commit not in repository.commits:
        return _send(handler, 404, X_Error_Code="RevisionNotFound")
    files = repository.commits[commit]
    if verb == "revision":
        return _send(handler, 200, json.dumps({"id": name, "sha": commit, "siblings": []}).encode())
    if verb == "tree":
        return _send(handler, 200, json.dumps(list(_tree(files))).encode())
    if name in hub.gated:
        return _send(handler, 403, X_Error_Code="GatedRepo")
    if (content := files.get(unquote(file))) is None:
        return _send(handler, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
    known: dict[str, object] = {"X_Repo_Commit": commit, "ETag": f'"{etag(content)}"'}
    if len(content) < _LFS_BYTES:
        return _send(handler, 200, content, **known)
    known |= {"X_Linked_Etag": f'"{sha256(content)}"', "X_Linked_Size": len(content)}
    return _send(handler, 302, Location=f"{hub.cdn}/cdn/{sha256(content)}", **known)


def _parsed(path: str) -> tuple[str, str, str]:
    """Which repository is meant, what is asked for, and the rest of the path."""
    for verb in ("revision", "tree", "resolve"):
        before, found, rest = path.partition(f"/{verb}/")
        if found:
            break
    else:
        before, verb, rest = path, "revision", ""
    return before.removeprefix("/api/models").removeprefix("/"), verb, rest


def _tree(files: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    folders = {path.rpartition("/")[0] for path in files} - {""}
    yield from ({"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders))
    for path, content in files.items():
        entry = {"type": "file", "path": path, "oid": git_blob(content), "size": len(content)}
        if len(content) >= _LFS_BYTES:
            entry["oid"] = git_blob(b"a pointer")
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
        yield entry


def _cdn(hub: Hub, handler: BaseHTTPRequestHandler) -> None:
    fault = hub.faults.popleft() if hub.faults else hub.always
    content = hub._content[handler.path.rpartition("/")[2]]
    size, start = len(content), 0
    if (asked := handler.headers.get("Range")) and not fault.ignore_range:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
    body = bytearray(content[start:] + b"x" * fault.longer)
    if fault.corrupt:
        body[-1] ^= 0xFF
    ranged = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
    _send(handler, 206 if start else 200, content_length=len(body), **ranged)
    if fault.pause_after is not None:
        handler.wfile.write(body[: fault.pause_after])
        del body[: fault.pause_after]
        hub.paused.set()
        hub.resume.wait(30)
    for end in (fault.cut_after, fault.reset_after):
        if end is not None:
            handler.wfile.write(body[:end])
            handler.close_connection = True
            if fault.reset_after is not None:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(handler.connection.detach())
            return
    handler.wfile.write(body)
