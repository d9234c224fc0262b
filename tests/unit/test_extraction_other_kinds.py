"""Files that are no pages: text, JSON, XML, feeds, PDF, and what is none of them."""

import io

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from homelab_ai.crawling.extraction.extract import extract
from homelab_ai.crawling.extraction.extracted import NotReadable

URL = "https://example.org/file"


def pdf(text: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    page = writer.add_blank_page(200, 200)
    font = DictionaryObject(
        {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1")}
        | {NameObject("/BaseFont"): NameObject("/Helvetica")}
    )
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
    )
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    writer.add_metadata({"/Title": "A leaflet", "/Author": "Ada Fern"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_plain_text() -> None:
    found = extract("Ein Satz.\r\n\r\n  Größer. <b>\r\n".encode(), URL, "text/plain; charset=utf-8")
    assert (found.text, found.strategy, found.title) == ("Ein Satz.\n\n  Größer. <b>", "plain_text", "Ein Satz.")
    assert found.html is None


@pytest.mark.parametrize("kind", ["application/json", "application/ld+json; charset=utf-8"])
def test_json_is_indented(kind: str) -> None:
    found = extract('{"a":[1,"é"]}'.encode(), URL, kind)
    assert found.text == '{\n  "a": [\n    1,\n    "é"\n  ]\n}'
    assert found.markdown == f"```json\n{found.text}\n```"
    assert found.strategy == "json"


def test_what_is_no_json_is_as_it_is() -> None:
    assert extract(b'{"a":', URL, "application/json").text == '{"a":'


RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>https://example.org</link>
<item><title>First</title><link>https://example.org/1</link><description>&lt;p&gt;A &lt;b&gt;bold&lt;/b&gt; text
&lt;/p&gt;</description></item><item><title>Second</title></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en"><title>News</title><entry><title>First</title>
<link href="https://example.org/1"/><summary>A bold text</summary></entry></feed>"""


@pytest.mark.parametrize(
    ("data", "kind"), [(RSS, "application/rss+xml"), (RSS, "text/xml"), (ATOM, "application/atom+xml")]
)
def test_feeds_are_their_entries(data: bytes, kind: str) -> None:
    found = extract(data, URL, kind)
    assert (found.strategy, found.title) == ("feed", "News")
    assert "First\nA bold text" in found.text
    assert "## [First](https://example.org/1)" in found.markdown
    assert found.links == [("https://example.org/1", "First")]


def test_other_xml_is_its_text() -> None:
    found = extract(b"<a><b>One</b>\n <c d='x'>Two  three</c></a>", URL, "application/xml")
    assert (found.text, found.strategy) == ("One\nTwo three", "xml")


def test_entities_are_neither_unfolded_nor_fetched() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + b"".join(
        b'<!ENTITY %c "%s">' % (99 + number, b"&%c;" % (98 + number) * 10) for number in range(9)
    )
    found = extract(bomb + b'<!ENTITY x SYSTEM "file:///etc/passwd">]><a>text &k; &x;</a>', URL, "text/xml")
    assert len(found.text) < 100
    assert "root:" not in found.text


def test_a_pdf() -> None:
    found = extract(pdf("Plant it in spring."), URL, "application/pdf")
    assert (found.text, found.title, found.strategy) == ("Plant it in spring.", "A leaflet", "pdf")
    assert found.metadata == {"author": "Ada Fern", "pages": 1}


def test_a_pdf_that_calls_itself_something_else() -> None:
    assert extract(pdf("Plant it."), URL, "application/octet-stream").strategy == "pdf"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf("Secret", "password"), "needs a password"),
        (pdf("Cut off")[:100], "is damaged"),
        (b"%PDF-1.7\n%%EOF", "is damaged"),
        (pdf(""), "without text"),
    ],
)
def test_a_pdf_that_cannot_be_read(data: bytes, reason: str) -> None:
    with pytest.raises(NotReadable, match=reason):
        extract(data, URL, "application/pdf")


@pytest.mark.parametrize("kind", ["image/png", "image/svg+xml", "application/zip", "video/mp4", "font/woff2", "x"])
def test_what_has_no_text_is_refused_by_its_type(kind: str) -> None:
    with pytest.raises(NotReadable, match=kind.replace("+", r"\+")):
        extract(b"\x89PNG\r\n\x1a\n", URL, kind)


def test_what_does_not_say_what_it_is() -> None:
    assert extract(b"  <!doctype html><p>Text", URL, "").text == "Text"
    assert extract(b"Just text", URL, "").strategy == "plain_text"
    with pytest.raises(NotReadable, match="does not say"):
        extract(b"\x7fELF\0\0\0", URL, "")
