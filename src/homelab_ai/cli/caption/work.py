"""From images to where their captions go: standard output, or a file beside each."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from homelab_ai.cli.asking import Asking, Post
from homelab_ai.cli.caption.images import Source, Unread, find
from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.ending import Stop
from homelab_ai.cli.progress import Shown, showing
from homelab_ai.cli.writing import new_file, put, put_record

_OF_THIS_IMAGE = {
    "CRAWL_BLOCKED",
    "CRAWL_FAILED",
    "INFERENCE_FAILED",
    "INTERNAL_ERROR",
    "PAYLOAD_TOO_LARGE",
    "TIMEOUT",
    "UNSUPPORTED_MEDIA_TYPE",
}
"""Codes of errors that another image need not have. The others (no key, no such model, ...) end the whole."""


@dataclass(frozen=True)
class Wishes:
    """What to say of images, and where."""

    model: str | None = None
    prompt: str | None = None
    max_new_tokens: int | None = None
    sidecar: str | None = None
    """The format of the file beside each image; None to print instead."""
    overwrite: bool = False
    as_json: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """As the service has them."""
        fields = {"model": self.model, "prompt": self.prompt, "max_new_tokens": self.max_new_tokens}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class _Failure:
    """Why there is no caption."""

    code: str
    message: str


_Caption = dict[str, str]
"""`caption` and `model`."""


def describe(url: str, names: Sequence[str], wishes: Wishes, *, recursive: bool) -> None:
    """Describe all that there is under these names. Raises `Stop`, at the end where some could not be described."""
    found = list(find(names, recursive=recursive))
    if wishes.sidecar and not all(isinstance(each, Unread) or each.path for each in found):
        raise Stop("--sidecar writes beside files; there is no place beside an address or standard input", 2)
    wanted = [each for each in found if not _has_sidecar(each, wishes)]
    one = [*names] == [each.name for each in found]  # no folder: whoever asks for one file knows its name
    failed = described = 0
    with showing("images", len(wanted), beside_output=not wishes.sidecar or wishes.as_json) as progress:
        asking = Asking(url, progress.wait)
        for source, result in asking.each(wanted, lambda post, each: _ask(post, each, wishes)):
            outcome = _kept(source, result, wishes)
            if isinstance(outcome, _Failure):
                failed += 1
            else:
                described += 1
            _tell(source, outcome, wishes, progress, named=len(found) > 1 or not one)
            progress.advance(1, 1)
    _sum_up(described, failed, len(found) - len(wanted), wishes)


def _sum_up(described: int, failed: int, skipped: int, wishes: Wishes) -> None:
    if not described + failed + skipped:
        raise Stop("There are no images there (-r looks into folders of folders, too)")
    if wishes.sidecar:
        print(f"{described:,} described, {skipped:,} had a file beside them, {failed:,} failed", file=sys.stderr)
    if failed:
        raise Stop(f"{failed:,} of {described + failed:,} images could not be described")


def _has_sidecar(source: Source | Unread, wishes: Wishes) -> bool:
    if isinstance(source, Unread) or not wishes.sidecar or wishes.overwrite:
        return False
    beside = source.sidecar(wishes.sidecar)
    return beside is not None and beside.exists()


def _ask(post: Post, source: Source | Unread, wishes: Wishes) -> _Caption | _Failure:
    if isinstance(source, Unread):
        return _Failure("UNREADABLE", source.reason)
    try:
        answer = _send(post, source, wishes)
    except OSError as error:
        return _Failure("UNREADABLE", error.strerror or type(error).__name__)
    except ServiceUnavailableError as error:
        if error.code in _OF_THIS_IMAGE or _is_about_the_image(error):
            return _Failure(error.code, str(error).removeprefix("image: "))
        raise
    return {"caption": answer["caption"], "model": answer["model_used"]}


def _send(post: Post, source: Source, wishes: Wishes) -> dict[str, Any]:
    if source.is_address:
        return post("/api/caption", json={"image": source.name} | wishes.fields).body
    if not source.path:
        return post("/api/caption", files={"image": ("image", sys.stdin.buffer.read())}, data=wishes.fields).body
    with source.path.open("rb") as file:  # read as it is sent, and anew where it is sent again
        return post("/api/caption", files={"image": ("image", file)}, data=wishes.fields).body


def _is_about_the_image(error: ServiceUnavailableError) -> bool:
    match error.details:
        case {"errors": [{"field": str(field)}, *_]}:
            return field.startswith("image")
    return False


def _kept(source: Source | Unread, result: _Caption | _Failure, wishes: Wishes) -> _Caption | _Failure:
    """Write the caption beside its image, if it is to be; what comes of it."""
    if isinstance(source, Unread) or isinstance(result, _Failure) or not wishes.sidecar:
        return result
    beside = source.sidecar(wishes.sidecar)
    assert beside
    content = orjson.dumps(result) if wishes.sidecar == "json" else result["caption"].encode()
    try:
        with new_file(beside, force=True) as file:
            file.write(content + b"\n")
    except Stop as error:
        return _Failure("UNWRITABLE", str(error))
    return result


def _tell(
    source: Source | Unread, outcome: _Caption | _Failure, wishes: Wishes, progress: Shown, *, named: bool
) -> None:
    if isinstance(outcome, _Failure):
        progress.say(f"{source.name}: {outcome.message}")
        if wishes.as_json:
            put_record({"image": source.name, "error": {"code": outcome.code, "message": outcome.message}})
    elif wishes.as_json:
        put_record({"image": source.name, **outcome})
    elif not wishes.sidecar:
        put(f"{source.name}: {outcome['caption']}" if named else outcome["caption"])
