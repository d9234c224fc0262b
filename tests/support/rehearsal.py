"""What the documentation shows, done by a shell and by Python beside a running service, as a reader does it.

All blocks of a document are done in their order, in one shell and in one program: what one exports or defines, the next
ones have. What is written for a reader's own home (`MEANS`) is taken for what there is here. Nothing but this machine
can be reached: every address must be one of loopback, the shell finds only the programs that it is given, whatever asks
for the way to elsewhere is sent to a port where nobody is, and the service reads pages from the port of the site alone.
"""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from homelab_ai.state import State
from models.shapes import draw, scenes
from support.answering import Handler, answering
from support.documents import Block
from support.images import saved
from support.server import KEYLESS, REPOSITORY, Server

KEY = "hlab_the-key-of-whoever-reads-the-documentation"
MEANS = {
    "http://192.168.1.5:8000": "the service",
    "http://127.0.0.1:8000": "the service",
    "https://example.com": "the site",
    "hlab_...": "the key",
}
"""What stands in the documentation for what each reader has. A service that needs no key from this machine, too."""

_PROGRAMS = ("cat", "curl", "grep", "head")
_NOWHERE = "http://127.0.0.1:9"
_END = "\x1e"
_CONFIG = """
models:
  image_caption:
    - {{id: shapes, hf_model: {shapes}, default: true}}
crawl: {{allow_hosts: [127.0.0.1], allow_ports: [{port}]}}
security:
  api_keys:
    - {{name: admin, key_hash: {key}, scopes: [admin, read, embed, caption, crawl]}}
"""
_PAGE = b"""<!doctype html><html lang="en"><head><title>Example Domain</title></head><body><div>
<h1>Example Domain</h1><p>This domain is for use in documentation examples without needing permission. Avoid use in
operations.</p><p><a href="https://iana.org/domains/example">Learn more</a></p></div></body></html>"""
# A stream has no end. Of what comes over one, a reader needs no more than its beginning.
_SHELL = r"""set -eu
curl() { case " $* " in *" -sN "*) command curl "$@" | head -n 3 ;; *) command curl "$@" ;; esac; }
"""
_PROGRAM = f"""
import json, sys
names = {{"__name__": "__main__"}}
for name, line, text in json.load(sys.stdin):
    exec(compile("\\n" * line + text, name, "exec"), names)
    print("{_END}", flush=True)
"""


class _Site(Handler):
    """example.com, as it was in 2026, with a picture."""

    def do_GET(self) -> None:
        if self.path.endswith(".jpg"):
            self.answer(picture(), "image/jpeg")
        else:
            self.answer(_PAGE, "text/html")


def picture() -> bytes:
    """What the reader has for a photo."""
    return saved(draw(next(scenes("docs"))), "JPEG")


@dataclass(frozen=True)
class Rehearsal:
    """A service, a site, and the folder of a reader."""

    server: Server
    site: str
    folder: Path

    @property
    def _here(self) -> dict[str, str]:
        return {"the service": self.server.url, "the site": self.site, "the key": KEY}

    def _meant(self, text: str) -> str:
        for written, meant in MEANS.items():
            text = text.replace(written, self._here[meant])
        elsewhere = [host for host in re.findall(r"https?://([^/\s'\"]+)", text) if not host.startswith("127.0.0.1:")]
        assert not elsewhere, f"what stands for {elsewhere} here? Nothing that is tested may ask it"
        return text

    def _written(self, text: str) -> str:
        for written, meant in reversed(MEANS.items()):
            text = text.replace(self._here[meant], written)
        return text

    def in_shell(self, blocks: Sequence[Block]) -> list[str]:
        """What each of them prints. Fails with what was said where one of them does."""
        script = "".join(f"{block.text}\nprintf '{_END}'\n" for block in blocks)
        return self._done(blocks, ["bash", "-c", _SHELL + self._meant(script)])

    def in_python(self, blocks: Sequence[Block]) -> list[str]:
        """The same of Python."""
        given = [(str(block), block.line, self._meant(block.text)) for block in blocks]
        return self._done(blocks, [sys.executable, "-c", _PROGRAM], json.dumps(given))

    def _done(self, blocks: Sequence[Block], command: list[str], stdin: str = "") -> list[str]:
        done = subprocess.run(
            [shutil.which(command[0]) or command[0], *command[1:]],
            cwd=self.folder,
            env={
                "PATH": str(self.folder / "bin"),
                "HOME": str(self.folder),
                "PYTHONPATH": str(REPOSITORY / "src"),
                "HOMELAB_AI_URL": self.server.url,
                "HOMELAB_AI_API_KEY": KEY,
                "COLUMNS": "120",
                **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _NOWHERE),
                "no_proxy": "127.0.0.1",
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        outputs = self._written(done.stdout).split(_END)[:-1]
        if done.returncode:
            raise AssertionError(f"{blocks[len(outputs)]} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
        assert len(outputs) == len(blocks)
        return [output.lstrip("\n") for output in outputs]


@contextlib.contextmanager
def rehearsal(folder: Path) -> Iterator[Rehearsal]:
    """A service with a model for texts and one for pictures, both loaded, and a reader beside it."""
    reader, served = folder / "reader", folder / "service"
    served.mkdir()
    _furnish(reader)
    with answering(_Site) as site:
        config = _CONFIG.format(
            shapes=REPOSITORY / "tests/models/blip-shapes",
            port=site.rpartition(":")[2],
            key=hashlib.sha256(KEY.encode()).hexdigest(),
        )
        with Server(served, config=config, environment=KEYLESS) as server:
            with server.client() as client:
                client.timeout = 150  # seconds: a model may be exported for the first time, on a machine that is busy
                client.post("/api/embed", json={"texts": ["first"]}).raise_for_status()
                client.post("/api/caption", files={"image": picture()}).raise_for_status()
            yield Rehearsal(server, site, reader)


def _furnish(reader: Path) -> None:
    """The command, other programs, a picture, a faulty configuration, and what a service has left that ran here."""
    (reader / ".venv" / "bin").mkdir(parents=True)
    (reader / "bin").mkdir()
    command = reader / ".venv" / "bin" / "homelab-ai"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m homelab_ai "$@"\n')
    command.chmod(0o755)
    (reader / "bin" / "homelab-ai").symlink_to(command)
    for program in _PROGRAMS:
        if found := shutil.which(program):
            (reader / "bin" / program).symlink_to(found)
    (reader / ".curlrc").write_text('write-out = "\\n"\n')  # each answer in a line of its own
    (reader / "photo.jpg").write_bytes(picture())
    (reader / "config.yaml").write_text("server:\n  prot: 8001\nresources:\n  max_memory_gb: 4 GB\n")
    State.open(reader / "data").close()
