"""Pairs that wait keep tokens and states together, however they come, go and are taken back."""

from __future__ import annotations

import random

import numpy as np

from mlc_serve.runtime.model_functions import States
from mlc_serve.runtime.pending_pairs import PendingPairs


def states(start: int, count: int) -> States:
    """States that tell their positions."""
    return np.arange(start, start + count, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)


def positions(parts: list[States]) -> list[int]:
    """The positions that states tell."""
    return [int(row[0]) for part in parts for row in part]


def test_each_state_comes_with_the_token_after_it() -> None:
    """After any appends, truncations and takings, tokens and states are those of consecutive positions. Here,
    the token at position n is 100 + n.
    """
    rng = random.Random(3)
    for _ in range(50):
        pending, length, taken = PendingPairs(), 0, 0
        for _ in range(12):
            count = rng.randrange(1, 6)
            rows = states(length, count)
            pending.append([100 + length + i for i in range(count)], rows)
            rows[:] = -1  # the caller's array changes after each pass
            length += count
            if rng.random() < 0.5:
                length -= rng.randrange(count)
                pending.truncate(length)
            assert (pending.end, pending.num_states) == (length, length - taken)
            count = rng.randrange(pending.num_pairs + 1)
            ids, parts = pending.take(count)
            assert positions(parts) == list(range(taken, taken + count))
            assert ids == [101 + position for position in range(taken, taken + count)]
            taken += count
        ids, parts = pending.take(pending.num_states, 7)
        assert ids == [*(101 + position for position in range(taken, length - 1)), 7]
        assert positions(parts) == list(range(taken, length))
        assert (pending.start, pending.end, pending.num_pairs) == (length, length, 0)


def test_a_fork_has_what_comes_before_it_and_changes_apart() -> None:
    """A fork within the states has the first of them, and one before them has none."""
    parent = PendingPairs()
    parent.append([*range(100, 110)], states(0, 10))
    parent.append([110, 111], states(10, 2))
    parent.take(4)
    child, empty = parent.before(9), parent.before(2)
    assert (empty.start, empty.end) == (2, 2)
    child.append([50], states(9, 1))
    ids, parts = child.take(5)
    assert ids == [105, 106, 107, 108, 50]
    assert positions(parts) == [4, 5, 6, 7, 8]
    assert positions(parent.take(parent.num_pairs)[1]) == [4, 5, 6, 7, 8, 9, 10]
