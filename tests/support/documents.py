"""The documentation as data: its code blocks, tables, headings and links, read as CommonMark reads them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from support.server import REPOSITORY

_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    document: str
    line: int
    """Of its first line, from 1."""
    section: str
    """The heading that it stands below."""
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Document:
    """One file, by its path in the repository."""

    name: str
    blocks: tuple[Block, ...]
    anchors: frozenset[str]
    """What links can lead to within it."""
    links: tuple[str, ...]
    code: tuple[str, ...]
    """Everything that stands between single backticks."""
    tables: tuple[tuple[tuple[str, ...], ...], ...]
    """Rows of cells, as they are written; the first row is the head."""

    @property
    def text(self) -> str:
        return (REPOSITORY / self.name).read_text()

    def table(self, *head: str) -> list[dict[str, str]]:
        """The rows below this head, by the names in it."""
        (rows,) = (rows for head_, *rows in self.tables if head_ == head)
        return [dict(zip(head, row, strict=True)) for row in rows]


def documents() -> list[Document]:
    """README.md, and everything in docs/ that is plain Markdown: what holds directives is for a site alone."""
    names = ["README.md", *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md")))]
    return [each for each in map(document, names) if not any(block.language.startswith("{") for block in each.blocks)]


@cache
def document(name: str) -> Document:
    """Read one of them."""
    tokens = _MARKDOWN.parse((REPOSITORY / name).read_text())
    inline = [child for token in tokens for child in token.children or ()]
    return Document(
        name=name,
        blocks=tuple(_blocks(name, tokens)),
        anchors=frozenset(_anchors(tokens)),
        links=tuple(_links(inline, tokens)),
        code=tuple(child.content for child in inline if child.type == "code_inline"),
        tables=tuple(_tables(tokens)),
    )


def _headings(tokens: list[Token]) -> Iterator[tuple[int, str]]:
    """The position of each, and its text."""
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            children = tokens[position + 1].children or ()
            yield position, "".join(child.content for child in children)


def _blocks(name: str, tokens: list[Token]) -> Iterator[Block]:
    headings = dict(_headings(tokens))
    section = ""
    for position, token in enumerate(tokens):
        section = headings.get(position, section)
        if token.type in {"fence", "code_block"}:
            assert token.map
            yield Block(name, token.map[0] + 1, section, token.info.strip(), token.content)


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """As GitHub makes them of headings."""
    seen: dict[str, int] = {}
    for _, heading in _headings(tokens):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor


def _links(inline: list[Token], tokens: list[Token]) -> Iterator[str]:
    for token in inline:
        for attribute in ("href", "src"):
            if found := token.attrGet(attribute):
                yield str(found)
    for token in (*tokens, *inline):
        if token.type in {"html_block", "html_inline"}:
            yield from re.findall(r'(?:href|src|srcset)="([^"]+)"', token.content)


def _tables(tokens: list[Token]) -> Iterator[tuple[tuple[str, ...], ...]]:
    rows: list[tuple[str, ...]] = []
    cells: list[str] = []
    for position, token in enumerate(tokens):
        match token.type:
            case "table_open":
                rows = []
            case "tr_open":
                cells = []
            case "th_open" | "td_open":
                cells.append(tokens[position + 1].content)
            case "tr_close":
                rows.append(tuple(cells))
            case "table_close":
                yield tuple(rows)


def in_backticks(cell: str) -> list[str]:
    """The names in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def relative(document: str, link: str) -> tuple[Path, str]:
    """The file that a link leads to, and the anchor in it."""
    path, _, anchor = link.partition("#")
    here = REPOSITORY / document
    return (here.parent / path if path else here), anchor
