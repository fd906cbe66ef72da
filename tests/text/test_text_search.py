"""Searching and changing long texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.text import text_search
from mlc_serve.text.text_search import TextSearch, change_characters

LETTERS = st.text("ab<>", max_size=60)


@given(LETTERS, st.sets(st.text("ab<>", min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 9))
def test_slices_make_no_difference(text: str, sought: set[str], slice_length: int) -> None:
    """A long text is split as one search of the whole would split it, wherever its slices end."""
    whole = "|".join(map(re.escape, sorted(sought, key=len, reverse=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_search, "_SLICE", slice_length)
        search = TextSearch(sought)
        assert search.split(text) == re.split(f"({whole})", text)
        assert search.is_in(text) == any(one in text for one in sought)
        assert search.replace(text, str.upper) == re.sub(whole, lambda found: found[0].upper(), text)
        assert change_characters(text, str.upper) == text.upper()


def test_nothing_is_found_by_a_search_for_nothing() -> None:
    """A search for no strings finds nothing, and does not split the text."""
    search = TextSearch(())
    assert not search.is_in("anything")
    assert search.split("anything") == ["anything"]
