"""Stop strings in text that comes in any portions, compared with a search of all prefixes of the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.errors import InvalidRequestError
from mlc_serve.text.stop_strings import StopSearch, StopStrings

ALPHABET = "abc"
stops_of_few_letters = st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=5)
portions_of_few_letters = st.lists(st.text(ALPHABET, max_size=5), max_size=8)


def naive(stops: list[str], text: str) -> tuple[str, bool]:
    """Grow the text character by character until it ends in a stop string, and cut off the longest such."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - len(max(found, key=len))], True
    return text, False


def naive_held(stops: list[str], text: str) -> int:
    """The length of the longest suffix of the text that begins a stop string."""
    return max((k for stop in stops for k in range(len(stop)) if text.endswith(stop[:k])), default=0)


@given(stops=stops_of_few_letters, portions=portions_of_few_letters)
def test_any_portions_give_what_the_naive_search_gives(stops: list[str], portions: list[str]) -> None:
    """Nothing of the first stop string is shown, nothing before it is lost, and no more is held back than
    necessary.
    """
    stream = StopSearch(StopStrings(stops))
    released, seen, matched = "", "", False
    for portion in portions:
        text, matched = stream.push(portion)
        seen += portion
        released += text
        if not matched:
            assert len(seen) - len(released) == naive_held(stops, seen)
    released += stream.finish()

    assert naive(stops, "".join(portions)) == (released, matched)


@given(stops=stops_of_few_letters, texts=st.lists(portions_of_few_letters, min_size=2, max_size=4))
def test_texts_that_share_stop_strings_do_not_meet(stops: list[str], texts: list[list[str]]) -> None:
    """The table that one search has extended changes nothing for the next."""
    shared = StopStrings(stops)
    for portions in texts:
        stream = StopSearch(shared)
        released = "".join(stream.push(portion)[0] for portion in portions) + stream.finish()
        assert naive(stops, "".join(portions))[0] == released


@given(
    stops=stops_of_few_letters,
    portions=st.lists(st.tuples(st.text(ALPHABET, max_size=3), st.sampled_from(["", "a", "bc", "cab"]))),
)
def test_hidden_texts_are_searched_and_not_shown(stops: list[str], portions: list[tuple[str, str]]) -> None:
    """The text ends where it would if everything were shown; hidden texts that no stop string contains are
    skipped.
    """
    shared = StopStrings(stops)
    stream = StopSearch(shared)
    seen, shown, released = "", [], ""
    for text, hidden in portions:
        searched = hidden if any(hidden in stop for stop in stops) else ""
        seen += text + searched
        shown += [True] * len(text) + [False] * len(searched)
        released += stream.push(text)[0] + stream.push_hidden(hidden)[0]
    released += stream.finish()

    kept, _ = naive(stops, seen)
    visible = "".join(character for character, is_shown in zip(kept, shown, strict=False) if is_shown)
    assert visible == released


def test_a_long_stop_string_costs_what_the_text_matches_of_it() -> None:
    """The table of a stop string grows with the matched text, even if the string has megabytes."""
    stops = StopStrings(["ab" * 1_000_000])
    stream = StopSearch(stops)
    for _ in range(3):
        stream.push("abab")

    assert len(stops.patterns[0]._borders) <= 14
    assert stream.finish() == "abab" * 3


def test_text_after_a_match_is_dropped() -> None:
    """Text after a match is dropped, in the same portion and in later ones."""
    stream = StopSearch(StopStrings(["END"]))

    assert stream.push("so END and on") == ("so ", True)
    assert stream.push("more") == ("", True)
    assert stream.finish() == ""


def test_text_before_the_match_within_one_portion_is_kept() -> None:
    """Characters before the stop string in the same portion are shown."""
    stream = StopSearch(StopStrings(["\n\n"]))

    assert [stream.push("one\n"), stream.push("two\n\nthree")] == [("one", False), ("\ntwo", True)]


def test_without_stop_strings_nothing_is_held_back() -> None:
    """Without stop strings, all text is released at once."""
    stream = StopSearch(StopStrings([]))

    assert stream.push("anything") == ("anything", False)
    assert stream.finish() == ""


def test_the_longest_beginning_of_a_stop_string_is_held_back_and_given_back() -> None:
    """What could be a stop string appears as soon as it can't be one any more, or at the end."""
    stream = StopSearch(StopStrings(["###", "##-"]))

    assert [stream.push(text) for text in ("a#", "#", "!", "#")] == [
        ("a", False),
        ("", False),
        ("##!", False),
        ("", False),
    ]
    assert stream.finish() == "#"


def test_a_stop_string_may_be_shown() -> None:
    """If stop strings are shown, the text ends after the first one, in whatever portions it arrives."""
    for portions in (["a<en", "d>b"], ["a<end>b"]):
        search = StopSearch(StopStrings(["<end>", "<e"], are_shown=True))
        assert "".join(search.push(portion)[0] for portion in portions) == "a<e"


def test_an_empty_stop_string_is_refused() -> None:
    """An empty stop string, which would end every text before it begins, is refused."""
    with pytest.raises(InvalidRequestError) as refusal:
        StopStrings(["x", ""])

    assert refusal.value.param == "stop"
