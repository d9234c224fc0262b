"""The kinds of value a setting can have: a port, a network, a key's hash.

Each kind knows the one phrase that tells a person what it expects, so that every way of getting it wrong (another
type, out of range, a typing mistake) is answered with the same words. `tree` is built out of these kinds;
`loading` adds where the value was found.

Two kinds of refusal leave this module, as pydantic errors:
    ``expected``   "expected <phrase>"; whoever reports it may add what was found instead
    ``refused``    a sentence of its own, complete as it is
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
"""The way down the tree to a setting: names, and positions in lists."""


class Mark(Enum):
    """What a field of the tree can be marked with, beside its type."""

    RESERVED = "accepted and checked already, but its feature comes in a later version"
    CONFIDENTIAL = "must never be shown, not even in the message that refuses it"


def spell(place: Place) -> str:
    """Write a place as people do, such as ``models.text_embedding[1].id``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field of this type holds, alone or in a list; None if it holds plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := model_within(inner))), None)


def plain_types(annotation: Any) -> Iterator[Any]:
    """Yield the types of which a value may be one, without what is said about them."""
    if get_origin(annotation) in {Union, UnionType}:
        for choice in get_args(annotation):
            yield from plain_types(choice)
    elif get_origin(annotation) is Annotated:
        yield from plain_types(get_args(annotation)[0])
    else:
        yield annotation


def mismatch(phrase: str) -> PydanticCustomError:
    """Return the error that says "expected <phrase>"."""
    return PydanticCustomError("expected", "expected {phrase}", {"phrase": phrase})


def refusal(why: str, *, discreet: str | None = None) -> PydanticCustomError:
    """Return the error that refuses a value with a sentence of its own.

    A sentence that quotes the value comes with a `discreet` one that does not, for values that may not be shown.
    """
    # The sentences travel as context: pydantic would take braces in a template for placeholders.
    return PydanticCustomError("refused", "{why}", {"why": why, "discreet": discreet or why})


def refuse(problems: Iterable[tuple[Place, str]]) -> None:
    """Raise one error that holds all `problems`, pairs of a place below the validated model and a sentence.

    Raises:
        ValidationError: if there is any problem.
    """
    details = [InitErrorDetails(type=refusal(why), loc=place, input=None) for place, why in problems]
    if details:
        raise ValidationError.from_exception_data("settings", details)


def repeated(values: Iterable[tuple[Place, object]]) -> Iterator[tuple[Place, Place]]:
    """Yield the place of each value that came before, and the place where it came first."""
    first: dict[object, Place] = {}
    for place, value in values:
        if first.setdefault(value, place) != place:
            yield place, first[value]


def expecting(phrase: str) -> WrapValidator:
    """Answer whatever the type before it refuses with "expected <phrase>"."""

    def check(value: Any, validated: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validated(value)
        except ValidationError:
            raise mismatch(phrase) from None

    return WrapValidator(check)


_Item = TypeVar("_Item")
# YAML gives lists, and a frozen tree wants tuples: the one conversion that strict models must allow.
Many = Annotated[tuple[_Item, ...], Strict(strict=False)]


def _not_empty(items: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not left to Field(min_length=...), which also complains of a list whose only fault is a bad entry.
    if not items:
        raise refusal("expected at least one entry; to get the default, leave the setting out")
    return items


Some = Annotated[Many[_Item], AfterValidator(_not_empty)]

Switch = Annotated[bool, expecting("true or false")]
Count = Annotated[int, Field(ge=1), expecting("a whole number of at least 1")]
CountOrZero = Annotated[int, Field(ge=0), expecting("a whole number of at least 0")]
_MOST = 1_000_000_000
Amount = Annotated[float, Field(gt=0, le=_MOST), expecting("a number above 0, a billion at most")]
AmountOrZero = Annotated[float, Field(ge=0, le=_MOST), expecting("a number from 0 to a billion")]
AmountOrAuto = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0, le=_MOST)],
    expecting("auto, or a number above 0, a billion at most"),
]
Delay = Annotated[float, Field(ge=0, le=3600), expecting("a number from 0 to 3600")]
Port = Annotated[int, Field(ge=1, le=65535), expecting("a whole number from 1 to 65535")]

QUOTES = "(a number or a word like yes, no or null needs quotes)"
"""What a phrase ends with where YAML could read a text as something else."""
AnyText = Annotated[str, expecting(f"text {QUOTES}")]
Text = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"),
    expecting(f"text on one line {QUOTES}"),
]
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
Label = Annotated[
    str,
    # Without what a terminal obeys, and what turns the order of a line around.
    Field(pattern=rf"^[^\x20{_UNSEEN}](?:[^{_UNSEEN}]{{0,62}}[^\x20{_UNSEEN}])?$"),
    expecting(f"a name of at most 64 characters {QUOTES}"),
]
ModelId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
    expecting("at most 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"),
]
Alias = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"),
    expecting("at most 128 letters, digits, '.', '_', '-', ':', '/' or '@', beginning with a letter or digit"),
]
Device = Annotated[
    str,
    Field(pattern=r"^(?:auto|cpu|cuda|cuda:(?:0|[1-9][0-9]{0,2})|mps)$"),
    expecting("auto, cpu, cuda, mps, or one GPU by its number, such as cuda:0"),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"], expecting("auto, float32, bfloat16 or float16")
]
RateLimit = Annotated[
    str,
    Field(pattern=r"^[1-9][0-9]{0,8}/(?:second|minute|hour|day)$"),
    expecting("a count per second, minute, hour or day, such as 600/minute"),
]


def _counter_url(value: Any) -> str:
    """Only what is surely no address is refused here: what Redis makes of it is for its client to say."""
    if value == "memory://":
        return "memory://"
    try:
        parts = urlsplit(value) if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) else None
        usable = parts and (
            bool(parts.path.strip("/"))
            if parts.scheme == "redis+unix"
            else parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        )
    except ValueError:
        usable = False
    if usable:
        return str(value)
    # What was found stays unsaid: it may hold a password.
    raise mismatch("memory://, redis://host:6379/0, rediss://... (TLS) or redis+unix:///path/of/redis.sock")


CounterUrl = Annotated[str, BeforeValidator(_counter_url), Mark.CONFIDENTIAL]
UrlPrefix = Annotated[
    str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]+)*$"), expecting('a path such as /ai, without a final slash, or ""')
]


def _keep_alive(minutes: float) -> float:
    if minutes != -1 and minutes < 0:
        raise ValueError
    return minutes


KeepAlive = Annotated[
    float,
    AfterValidator(_keep_alive),
    expecting("minutes (fractions are fine), 0 for at once, or -1 for never"),
]

Scope = Annotated[
    Literal["embed", "caption", "crawl", "read", "admin"], expecting("embed, caption, crawl, read or admin")
]


def _not_admin(scope: Any) -> Any:
    if scope == "admin":
        raise refusal("the admin scope needs a key: an address alone cannot have it")
    return scope


NetworkScope = Annotated[
    Literal["embed", "caption", "crawl", "read"],
    expecting("embed, caption, crawl or read"),
    BeforeValidator(_not_admin),
]
ALL_BUT_ADMIN: tuple[Literal["embed", "caption", "crawl", "read"], ...] = ("embed", "caption", "crawl", "read")


def _folder(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise mismatch(f"the path of a folder {QUOTES}")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise refusal("'~' cannot be used here, because this user has no home folder; write the whole path") from None


Folder = Annotated[Path, BeforeValidator(_folder)]


_HASH_OF_NOTHING = hashlib.sha256(b"").hexdigest()


def _key_hash(value: Any) -> str:
    if isinstance(value, str):
        digits = value.lower().removeprefix("sha256:")
        if digits == _HASH_OF_NOTHING:
            raise refusal("this is the hash of an empty text; the key was empty when it was made")
        if re.fullmatch("[0-9a-f]{64}", digits):
            return digits
    # What was found stays unsaid, here and wherever this is reported: a key may have been pasted in place of its hash.
    raise refusal(
        "expected the SHA-256 of the key, 64 digits and letters a to f (in quotes); "
        "make it with: printf %s KEY | sha256sum"
    )


KeyHash = Annotated[str, BeforeValidator(_key_hash), Mark.CONFIDENTIAL]


def _network(value: Any) -> Any:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    # An interface name (fe80::1%eth0) would be parsed, yet no client address would ever match it.
    if isinstance(value, str) and "%" not in value:
        try:
            return _as_clients_are_known(ipaddress.ip_network(value))
        except ValueError:
            _explain_host_bits(value)
    raise mismatch("an address such as 192.168.1.10 or a network such as 192.168.1.0/24")


def _as_clients_are_known(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """`::ffff:192.168.9.0/120` as 192.168.9.0/24: a client with such an address is known by the IPv4 one."""
    if isinstance(network, IPv6Network) and (mapped := network.network_address.ipv4_mapped):
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _explain_host_bits(value: str) -> None:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return
    address = value.partition("/")[0]
    raise refusal(
        f"{value} is one address of a network; write {network} for the network, or {address} for the address",
        discreet="one address of a network; write the network's first address before the slash",
    )


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


def _host_name(value: Any) -> str:
    if isinstance(value, str):
        name = value.lower().removeprefix("[").removesuffix("]")
        if _is_address(name) or re.fullmatch(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?", name):
            return name
    raise mismatch("a bare host name or address, such as nas.lan or 192.168.1.10 (no http://, port or wildcard)")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


HostName = Annotated[str, BeforeValidator(_host_name)]


def _host_or_domain(value: Any) -> str:
    dot, name = (".", value[1:]) if isinstance(value, str) and value.startswith(".") else ("", value)
    try:
        host = _host_name(name)
    except PydanticCustomError:
        host = ""
    if not host or (dot and _is_address(host)):
        raise mismatch("a bare host name or address, such as nas.lan, or .lan for all hosts whose name ends so")
    return dot + host


HostOrDomain = Annotated[str, BeforeValidator(_host_or_domain)]
"""A host, or with a dot before it all those of a domain, without the domain itself."""
