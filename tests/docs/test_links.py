"""Every link of the documentation leads to a file that is there, and to a heading in it; and every page is found."""

import pytest

from support.documents import Document, document, documents, relative
from support.server import REPOSITORY

DOCUMENTS = documents()
ELSEWHERE = ("https://", "http://127.0.0.1:8000/")  # where the reader's service is


@pytest.mark.parametrize("written", DOCUMENTS, ids=[each.name for each in DOCUMENTS])
def test_every_link_leads_somewhere(written: Document) -> None:
    for link in written.links:
        if link.startswith(ELSEWHERE):
            continue
        path, anchor = relative(written.name, link)
        assert path.exists(), link
        if anchor:
            name = path.resolve().relative_to(REPOSITORY).as_posix()
            assert anchor in document(name).anchors, link


def test_every_page_is_linked_from_another() -> None:
    linked = {
        relative(each.name, link)[0].resolve()
        for each in DOCUMENTS
        for link in each.links
        if not link.startswith((*ELSEWHERE, "#"))
    }
    assert [each.name for each in DOCUMENTS[1:] if REPOSITORY / each.name not in linked] == []
