"""Bytes to text: by byte order mark, by what HTTP says, by what the page says, else by what it looks like."""

import codecs
import re

from charset_normalizer import from_bytes

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_IN_HEADER = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_IN_PAGE = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]{0,100}encoding=[\"']([\w.:-]+)", re.IGNORECASE
)
_HEAD = 4096
_SAMPLE = 20_000
_NEARLY_ALL = 0.99
_CERTAIN = frozenset(
    [
        "cp1251",
        "koi8_r",
        "koi8_u",
        "iso8859_5",
        "mac_cyrillic",
        "cp866",
        "cp1253",
        "iso8859_7",
        "cp1255",
        "iso8859_8",
        "cp1256",
        "iso8859_6",
        "cp874",
        "big5",
        "big5hkscs",
        "cp932",
        "cp949",
        "euc_jp",
        "euc_kr",
        "gb18030",
        "gb2312",
        "gbk",
        "shift_jis",
        "iso2022_jp",
        "utf_16",
        "utf_16_be",
        "utf_16_le",
        "utf_32",
    ]
)
# As browsers read them (https://encoding.spec.whatwg.org/#names-and-labels).
_MEANT = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "iso-8859-9": "cp1254",
    "tis-620": "cp874",
}


def decoded(data: bytes, content_type: str) -> str:
    """Return the text. What is not in its charset becomes U+FFFD."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    said = _known(match[1]) if (match := _IN_HEADER.search(content_type)) else None
    if said is None and (inside := _IN_PAGE.search(data[:_HEAD])):
        said = _known((inside[1] or inside[2]).decode("ascii", "replace"))
        if said and said.startswith("utf-16"):  # it could not have been found as ASCII then
            said = "utf-8"
    if said is not None:
        return data.decode(said, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(_guessed(data), "replace")


def _guessed(data: bytes) -> str:
    if len(data.decode("utf-8", "ignore").encode()) > _NEARLY_ALL * len(data):
        return "utf-8"  # one damaged character, or the end of a page cut in the middle of one
    best = from_bytes(data[:_SAMPLE]).best()
    # Of the alphabets with Latin letters, what a browser takes: the guess cannot tell them apart.
    return best.encoding if best and best.encoding in _CERTAIN else "cp1252"


def _known(name: str) -> str | None:
    name = _MEANT.get(name.lower(), name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    # Python's codecs that are none of text, and those that no page is written in, are passed over.
    usable = info._is_text_encoding and not info.name.endswith(("idna", "punycode", "escape", "undefined", "utf-7"))  # noqa: SLF001 - no other way
    return info.name if usable else None
