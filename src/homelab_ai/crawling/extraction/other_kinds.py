"""Files that are no web pages: plain text, JSON, XML and feeds, PDF."""

import io
import re

import orjson
from lxml import etree
from lxml import html as lxml_html
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from homelab_ai.crawling.extraction.extracted import Extracted, NotReadable

_PAGES = 500
"""Of a PDF."""
_ENTRIES = 500
_BODIES = ("encoded", "content", "description", "summary")


def from_plain_text(text: str) -> Extracted:
    """As it is."""
    text = text.replace("\r\n", "\n").strip()
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    return _extracted(first[:200], text, text, "plain_text")


def from_json(data: bytes, text: str) -> Extracted:
    """Indented; as it is where it cannot be parsed."""
    try:
        pretty = orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the second where it is nested too deeply
        pretty = text.strip()
    return _extracted("", pretty, f"```json\n{pretty}\n```", "json")


def from_xml(data: bytes) -> Extracted | None:
    """Feeds as their entries, all else as the text of each element on a line. None where it is no XML."""
    # No entity is looked up or unfolded, and no document type is fetched.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, recover=True, remove_comments=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    if root is None:
        return None
    if _name(root) in {"rss", "feed", "rdf"}:
        return _feed(root)
    lines = [" ".join(text.split()) for text in root.itertext() if text.strip()]
    text = "\n".join(lines)
    return _extracted(lines[0][:200] if lines else "", text, text, "xml")


def from_pdf(data: bytes) -> Extracted:
    """Its text, page by page. Raises `NotReadable` for one that is damaged, locked, or made of pictures alone."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise NotReadable("is a PDF that needs a password")
        count = len(reader.pages)
        pages = [reader.pages[number].extract_text() for number in range(min(count, _PAGES))]
        about = reader.metadata
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise NotReadable("is a PDF that is damaged, or of a kind that cannot be read here") from error
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise NotReadable("is a PDF without text; its pages are pictures")
    known = {"author": about.author, "description": about.subject} if about else {}
    title = " ".join(str((about and about.title) or "").split())
    metadata = {key: " ".join(str(value).split()) for key, value in known.items() if value} | {"pages": count}
    notes = [f"has {count} pages, of which the first {_PAGES} were read"] if count > _PAGES else []
    return Extracted(title or text.split("\n", 1)[0][:200], text, text, [], metadata, None, "pdf", notes=notes)


def _feed(root: etree._Element) -> Extracted:
    title = next((_plain(element) for element in root.iter() if _name(element) == "title"), "")
    entries = [element for element in root.iter() if _name(element) in {"item", "entry"}][:_ENTRIES]
    lines, marked, links = [title], [f"# {title}"], []
    for entry in entries:
        parts = {_name(child): child for child in reversed(entry)}
        name = _plain(parts["title"]) if "title" in parts else ""
        link = parts.get("link")
        address = ((link.get("href") or link.text or "") if link is not None else "").strip()
        body = next((_plain(parts[key]) for key in _BODIES if key in parts), "")
        if address.startswith(("http://", "https://")):
            links.append((address, name))
        lines += [name, body, ""]
        marked += [f"## [{name}]({address})" if address else f"## {name}", body]
    return Extracted(
        title,
        "\n".join(lines).strip(),
        "\n\n".join(line for line in marked if line),
        links,
        {},
        (root.get("{http://www.w3.org/XML/1998/namespace}lang") or "").lower() or None,
        "feed",
    )


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname.lower() if isinstance(element.tag, str) else ""


def _plain(element: etree._Element) -> str:
    """The text of an element that may hold HTML, as text or as elements."""
    text = " ".join("".join(element.itertext()).split())
    if re.search(r"<\w", text):
        try:
            text = lxml_html.fromstring(f"<div>{text}</div>").text_content()
        except (etree.LxmlError, ValueError):
            return text
    return " ".join(text.split())


def _extracted(title: str, text: str, markdown: str, strategy: str) -> Extracted:
    return Extracted(title, text, markdown, [], {}, None, strategy)
