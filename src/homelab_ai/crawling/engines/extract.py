"""Extracts pages, in a process that may die: what strangers send is read by large libraries, some of them written in C.

An engine module without a model. Each run is one page as it came; the answer is its `Extracted` as JSON, or the reason
why there is none.
"""

import contextlib
import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import orjson

from homelab_ai.crawling.extraction.extract import extract
from homelab_ai.crawling.extraction.extracted import NotReadable
from homelab_ai.models.hosts.engine import Engine, Report

_MEMORY_BYTES = 2 * 1024**3
"""What a page may take, beyond what the process has when it is ready."""
_LONGEST = 5_000_000
"""Characters of text, and of Markdown."""
_PAGE_SIZE = resource.getpagesize()
_LEFT_OUT: dict[str, Any] = {"markdown": "", "html": None, "links": [], "metadata": {}}


def load(options: dict[str, Any], report: Report) -> Engine:  # noqa: ARG001 - there is nothing to wait for
    """Make ready. `options["memory_bytes"]`, where given, stands in the place of 2 GB."""
    logging.disable()  # the last words of a host that dies are logged, and libraries quote pages in theirs
    extract(b"<p>The first page makes the libraries load what they need.</p>", "http://localhost/", "text/html")
    with contextlib.suppress(ValueError, OSError):  # macOS has none
        limit = _address_space() + options.get("memory_bytes", _MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return Extraction()


class Extraction:
    """Reads pages."""

    def describe(self) -> dict[str, Any]:
        """Return nothing of interest."""
        return {}

    def run(self, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Extract the page in `body`.

        `options` holds its `url` and `content_type`, and in `wishes` which of `markdown`, `html`, `links` and
        `metadata` are wanted. Answers with JSON, or `refused` with `not_readable` or `failed`, and the `reason`.
        """
        try:
            with warnings.catch_warnings(action="ignore"):
                found = extract(body, options["url"], options["content_type"])
        except NotReadable as refusal:
            return {"refused": "not_readable", "reason": str(refusal)}, b""
        except MemoryError:
            return {"refused": "failed", "reason": "takes more memory to read than there is for one page"}, b""
        except RecursionError:
            return {"refused": "failed", "reason": "is nested too deeply to be read"}, b""
        answer = {name: getattr(found, name) for name in found.__dataclass_fields__}
        answer |= {name: empty for name, empty in _LEFT_OUT.items() if name not in options["wishes"]}
        for name in ("text", "markdown"):
            if len(answer[name]) > _LONGEST:  # small files of some kinds become very large texts
                answer[name] = answer[name][:_LONGEST]
                answer["notes"] = [*answer["notes"], f"has more {name} than {_LONGEST} characters, which are the first"]
        return {}, orjson.dumps(_sendable(answer))


def _sendable(value: Any) -> Any:
    """The same without halves of letters, which some charsets and PDF files hold, and no JSON."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {key: _sendable(each) for key, each in value.items()}
        case list() | tuple():
            return [_sendable(each) for each in value]
    return value


def _address_space() -> int:
    """Bytes of address space that the process has now."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_SIZE
    return 0 if sys.platform == "linux" else 4 * 1024**3
