"""Bytes of many charsets, said in many ways, or not at all."""

import pytest

from homelab_ai.crawling.extraction.charset import decoded

TEXT = "Größe, façade, naïve: die schönen Häuser kosten übermäßig viel."


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (TEXT.encode(), "text/html; charset=utf-8"),
        (TEXT.encode(), "text/html"),
        (TEXT.encode("cp1252"), "text/html; charset=ISO-8859-1"),
        (TEXT.encode("cp1252"), 'text/html; charset="windows-1252"'),
        (b"\xef\xbb\xbf" + TEXT.encode(), "text/html; charset=latin-1"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "text/html"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "text/html; charset=utf-8"),
        (TEXT.encode(), "text/html; charset=no-such-thing"),
        (TEXT.encode(), "text/html; charset=base64"),
    ],
)
def test_what_is_said(data: bytes, content_type: str) -> None:
    assert decoded(data, content_type).removeprefix("\ufeff") == TEXT


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="{}">',
        "<META http-equiv=Content-Type content='text/html; charset={}'>",
        '<?xml version="1.0" encoding="{}"?>',
    ],
)
@pytest.mark.parametrize(
    ("charset", "text"), [("windows-1251", "Привет, мир"), ("shift_jis", "日本語"), ("utf-8", "é")]
)
def test_what_the_page_says(head: str, charset: str, text: str) -> None:
    assert text in decoded((head.format(charset) + text).encode(charset), "text/html")


def test_the_header_comes_before_the_page() -> None:
    assert "é" in decoded('<meta charset="shift_jis">é'.encode(), "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        (
            "cp1251",
            "Эта страница описывает сады: какие цветы любят тень, какие любят солнце, сколько пить. " * 5,
        ),
        ("cp1252", "Les élèves étaient très fâchés après la fête: où était passé le gâteau, et à qui la faute? " * 5),
    ],
)
def test_what_it_looks_like(charset: str, text: str) -> None:
    assert decoded(text.encode(charset), "text/html") == text


def test_utf_8_that_ends_in_the_middle_of_a_character() -> None:
    whole = ("é" * 2000).encode()
    assert decoded(whole[:-1], "text/html").startswith("é" * 1999)
