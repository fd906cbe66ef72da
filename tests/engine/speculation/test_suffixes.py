"""The suffix automaton against a search for the longest repeated end, which tries them all."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from mlc_serve.engine.speculation.suffixes import Suffixes


def occurs_at(tokens: Sequence[int], length: int) -> set[int]:
    """Where the last `length` tokens have occurred before: how many tokens precede what followed them."""
    end = tokens[len(tokens) - length :]
    return {stop for stop in range(length, len(tokens)) if tokens[stop - length : stop] == end}


def longest_match(tokens: Sequence[int]) -> int:
    """The most tokens at the end that have occurred before."""
    return max((length for length in range(1, len(tokens)) if occurs_at(tokens, length)), default=0)


@pytest.mark.parametrize("num_letters", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(12))
def test_the_longest_repeated_end_is_found_after_each_token(num_letters: int, seed: int) -> None:
    """Its length is that of an exhaustive search, and its place is behind an earlier occurrence."""
    rng = random.Random(seed)
    tokens = rng.choices(range(num_letters), k=70)
    tokens += tokens[rng.randrange(40) :][: rng.randrange(30)]
    suffixes = Suffixes()
    for count, token in enumerate(tokens, 1):
        suffixes.extend([token])
        length, end = suffixes.match
        assert suffixes.num_tokens == count
        assert length == longest_match(tokens[:count])
        assert not length or end in occurs_at(tokens[:count], length)


def test_tokens_may_come_in_any_pieces() -> None:
    """The match after a text does not depend on how many tokens were appended at a time."""
    rng = random.Random(5)
    tokens = rng.choices(range(3), k=300)
    whole, pieces = Suffixes(), Suffixes()
    whole.extend(tokens)
    rest = list(tokens)
    while rest:
        count = rng.randint(0, 40)
        pieces.extend(rest[:count])
        rest = rest[count:]
    assert pieces.match == whole.match
    assert (pieces.num_tokens, whole.num_tokens) == (300, 300)


def test_nothing_is_found_where_nothing_repeats() -> None:
    """An empty sequence, and one in which each token is new, have no match."""
    suffixes = Suffixes()
    assert suffixes.match.length == 0
    suffixes.extend(range(100))
    assert suffixes.match.length == 0
