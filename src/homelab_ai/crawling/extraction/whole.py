"""What nobody would tear apart, whatever the scorer thinks of its pieces.

A table, an item of a list with the list in it, a heading with what it heads.
"""

import collections
from collections.abc import Sequence

from homelab_ai.crawling.extraction.blocks import Block
from homelab_ai.crawling.extraction.company import is_heading

_ENOUGH = 1 / 3
"""Share of a table's words that have to be chosen for all of it to be."""


def whole(page: Sequence[Block], choice: Sequence[bool]) -> list[bool]:
    """Return the choice, mended.

    Tables are taken as a whole or not at all, lists with the item that they stand in, and headings with what follows.
    """
    result = list(choice)
    for numbers in _tables(page):
        sizes = {number: len(page[number].words) for number in numbers}
        taken = sum(size for number, size in sizes.items() if choice[number])
        for number in numbers:
            result[number] = taken >= _ENOUGH * sum(sizes.values())
    items: list[tuple[int, bool]] = []  # those around a block: how deep each is, and whether it is taken
    for number, block in enumerate(page):
        depth = len(block.place.lists) if block.place.item else 0
        while items and items[-1][0] >= depth:
            items.pop()
        if items and items[-1][1]:
            result[number] = True
        if depth:
            items.append((depth, result[number]))
    for number in range(len(page) - 2, -1, -1):
        if result[number + 1] and is_heading(page[number]):
            result[number] = True
    return result


def _tables(page: Sequence[Block]) -> list[list[int]]:
    """The blocks of each table of one block a cell. Those with more are frames for all kinds of things."""
    tables: dict[int, list[int]] = collections.defaultdict(list)
    cells: dict[int, set[int]] = collections.defaultdict(set)
    for number, block in enumerate(page):
        cell = block.place.cell
        if cell and cell.cell:
            tables[cell.table].append(number)
            cells[cell.table].add(cell.cell)
    return [numbers for table, numbers in tables.items() if len(numbers) == len(cells[table])]
