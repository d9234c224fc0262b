"""Blocks as plain text and as Markdown."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from homelab_ai.crawling.extraction.blocks import Block


def text_of(page: Iterable[Block]) -> str:
    """One block a line, the cells of a row with tabs between them."""
    lines = []
    for _, row in itertools.groupby(page, key=_row):
        cells = [block.text for block in row if block.text]
        lines.append(("\t" if len(cells) > 1 else "").join(cells))
    return "\n".join(line for line in lines if line)


def markdown_of(page: Sequence[Block]) -> str:
    """GitHub's dialect: ATX headings, fenced code, pipe tables."""
    parts: list[tuple[object, str]] = []
    for table, group in itertools.groupby(page, key=_table):
        blocks = list(group)
        if table is not None and _is_table(blocks):
            parts.append((table, _as_table(blocks)))
        else:
            parts += _as_paragraphs(blocks)
    written = ""
    for number, (kind, part) in enumerate(parts):
        # Items of one list, and the lines of one quotation, stand together.
        together = number and kind is not None and kind == parts[number - 1][0]
        written += ("\n" if together else "\n\n" if written else "") + part
    return written


def _row(block: Block) -> object:
    cell = block.place.cell
    return (cell.table, cell.row) if cell and cell.row else block


def _table(block: Block) -> int | None:
    return block.place.cell.table if block.place.cell and block.place.cell.cell else None


def _is_table(blocks: Sequence[Block]) -> bool:
    """Whether it is one of figures and words, not a layout from the days before CSS."""
    rows = {block.place.cell.row for block in blocks if block.place.cell}
    cells = {block.place.cell.cell for block in blocks if block.place.cell}
    if any(block.place.heading or block.place.code is not None for block in blocks):
        return False
    return len(rows) > 1 and len(cells) > len(rows)


def _as_table(blocks: Sequence[Block]) -> str:
    rows = []
    for _, row in itertools.groupby(blocks, key=lambda block: block.place.cell and block.place.cell.row):
        cells = itertools.groupby(row, key=lambda block: block.place.cell and block.place.cell.cell)
        rows.append([" ".join(_cell(block) for block in cell) for _, cell in cells])
    width = max(map(len, rows))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def _cell(block: Block) -> str:
    return block.markdown.replace("\n", " ").replace("|", "\\|")


def _as_paragraphs(blocks: Sequence[Block]) -> Iterator[tuple[object, str]]:
    item, numbers = 0, {0: 0}
    for block in blocks:
        place = block.place
        kind: object = None
        indent = ""
        if place.code is not None:
            fence = "````" if "```" in block.text else "```"
            lines = [f"{fence}{place.code}", *block.text.split("\n"), fence]
        else:
            lines = block.markdown.split("\n")
            if place.heading:
                lines = [f"{'#' * place.heading} {' '.join(lines)}"]
        if place.lists and place.item:
            depth = len(place.lists)
            kind = "list"
            marker = place.lists[-1]
            if place.item != item:
                numbers = {level: count for level, count in numbers.items() if level <= depth}
                numbers[depth] = numbers.get(depth, 0) + 1
                start = f"{numbers[depth]}. " if marker == "1." else "- "
            else:
                start = " " * (3 if marker == "1." else 2)
            indent = "   " * (depth - 1)
            lines = [indent + (start if not number else " " * len(start)) + line for number, line in enumerate(lines)]
        else:
            numbers = {0: 0}
        item = place.item
        if place.quotes:
            lines = ["> " * place.quotes + line for line in lines]
        yield kind, "\n".join(lines)
