"""Private characters for every letter of a client's texts."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.text.templates.fillers import Fillers, num_fillers
from mlc_serve.text.text_search import TextSearch

KEPT = TextSearch(["<x>", "--"])


def fillers_for(keys: list[str]) -> tuple[Fillers, set[str]]:
    """Fillers for these keys, and the characters that they are made of."""
    characters = [chr(0xF0000 + i) for i in range(num_fillers(keys, KEPT))]
    return Fillers(characters, KEPT, keys), set(characters)


@given(st.sets(st.text("ab <x>-", min_size=1, max_size=6), max_size=40))
def test_different_keys_stay_different(keys: set[str]) -> None:
    """Keys stay different, however short and many, and keep their lengths, white space and kept literals."""
    fillers, characters = fillers_for(sorted(keys))
    filled = {key: fillers.fill(key) for key in keys}
    lettered = [text for text in filled.values() if characters.intersection(text)]
    assert len(set(lettered)) == len(lettered)
    for key, text in filled.items():
        assert len(text) == len(key)
        assert [letter.isspace() for letter in text] == [letter.isspace() for letter in key]
        assert KEPT.split(text)[1::2] == KEPT.split(key)[1::2]
        kept = "".join(KEPT.split(key)[1::2])
        assert not (set(text) - characters - set(kept)) - {" "}


def test_all_keys_of_two_letters_differ() -> None:
    """There are enough characters for all keys of two letters to differ."""
    keys = ["".join(pair) for pair in product("abcdefghijklmnopqrstuvwxyz", repeat=2)]
    fillers, _ = fillers_for(keys)
    assert len({fillers.fill(key) for key in keys}) == len(keys)


def test_a_text_that_repeats_a_key_stays_the_same_as_the_key() -> None:
    """A repeated key is found again, as templates search lists for keys; other texts equal no key."""
    fillers, _ = fillers_for(["city", "unit"])
    assert fillers.fill("city") != fillers.fill("unit")
    assert fillers.fill("town") == fillers.fill("what") not in {fillers.fill("city"), fillers.fill("unit")}
