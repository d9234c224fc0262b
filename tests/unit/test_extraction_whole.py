"""Tables and headings are not torn apart."""

from lxml import html

from homelab_ai.crawling.extraction.blocks import Block, blocks
from homelab_ai.crawling.extraction.whole import whole

PAGE = """<h2>Far away</h2><p>Something else</p><h2>Trains</h2><h3>To the coast</h3><table>
<tr><th>Time</th><th>Platform</th></tr><tr><td>Eight o'clock</td><td>One</td></tr></table><p>No dogs</p>"""
FRAME = "<table><tr><td><p>Home</p><p>About</p></td><td><h1>News</h1><p>It rains</p></td></tr></table>"


def taken(source: str, *wanted: str) -> list[str]:
    page: list[Block] = blocks(html.document_fromstring(source), "https://example.org/")
    choice = whole(page, [block.text in wanted for block in page])
    return [block.text for block, take in zip(page, choice, strict=True) if take]


def test_a_table_of_which_enough_is_chosen_is_taken_whole_with_the_headings_above() -> None:
    table = ["Time", "Platform", "Eight o'clock", "One"]
    assert taken(PAGE, "Eight o'clock") == ["Trains", "To the coast", *table]


def test_a_table_of_which_hardly_anything_is_chosen_is_left() -> None:
    assert taken(PAGE, "One", "No dogs") == ["No dogs"]


def test_a_heading_with_nothing_chosen_below_stays_as_it_was() -> None:
    assert taken(PAGE, "No dogs") == ["No dogs"]
    assert taken(PAGE, "Far away", "No dogs") == ["Far away", "No dogs"]


def test_a_list_within_an_item_goes_with_it() -> None:
    source = (
        "<ul><li>Fruit<ol><li>Apple</li><li>Pear<ul><li>Green</li></ul></li></ol></li><li>Bread</li></ul><p>Shop</p>"
    )
    assert taken(source, "Fruit") == ["Fruit", "Apple", "Pear", "Green"]
    assert taken(source, "Pear", "Shop") == ["Pear", "Green", "Shop"]


def test_a_table_that_frames_the_page_is_taken_in_parts() -> None:
    assert taken(FRAME, "It rains") == ["News", "It rains"]
