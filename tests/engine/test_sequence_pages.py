"""SequencePages: whole pages as bytes, and parts of them."""

from __future__ import annotations

import pytest

from mlc_serve.engine.sequence_pages import PageLayout, SequencePages

LAYOUT = PageLayout("a layout", page_size=4, page_bytes=3)


def test_bytes_are_counted_in_tokens() -> None:
    """Three pages of 4 tokens, from position 8 on, end at position 20."""
    pages = SequencePages(LAYOUT, 8, b"aaabbbccc")
    assert (pages.num_tokens, pages.stop) == (12, 20)
    assert (LAYOUT.num_bytes_of(12), LAYOUT.num_tokens_in(11)) == (9, 12)


def test_a_part_has_the_bytes_of_its_pages() -> None:
    """Also a part of a part."""
    part = SequencePages(LAYOUT, 8, b"aaabbbccc").part(12, 20)
    assert (part.start, part.stop, bytes(part.data)) == (12, 20, b"bbbccc")
    assert bytes(part.part(16, 20).data) == b"ccc"


@pytest.mark.parametrize(("start", "stop"), [(4, 12), (12, 24), (12, 12), (16, 12), (10, 12)])
def test_a_part_is_within_the_pages(start: int, stop: int) -> None:
    """Positions outside of them, within a page, or in the wrong order are a ValueError."""
    with pytest.raises(ValueError, match=r"start|part"):
        SequencePages(LAYOUT, 8, b"aaabbbccc").part(start, stop)


@pytest.mark.parametrize(("start", "data"), [(0, b""), (0, b"aaab"), (2, b"aaa"), (-4, b"aaa")])
def test_anything_but_whole_pages_is_refused(start: int, data: bytes) -> None:
    """No pages, a part of a page, or a start within a page."""
    with pytest.raises(ValueError, match=r"data|start"):
        SequencePages(LAYOUT, start, data)
