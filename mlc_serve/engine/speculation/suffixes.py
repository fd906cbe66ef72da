"""Finds the longest end of a sequence of tokens that has occurred before in the same sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Match(NamedTuple):
    """The last `length` tokens have occurred before, and there `end` tokens precede what followed them."""

    length: int
    end: int


class Suffixes:
    """A suffix automaton (Blumer et al., 1985), which grows by one token in constant time on average.

    Each state stands for substrings that end at the same places. State 0 is the empty one.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self.match = Match(0, 0)
        self._next: list[dict[int, int]] = [{}]
        self._links = [-1]
        self._lengths = [0]
        self._ends = [0]
        self._last = 0

    def extend(self, token_ids: Sequence[int]) -> None:
        """Append tokens, and set `match`."""
        for token_id in token_ids:
            self._append(token_id)

    def _append(self, token_id: int) -> None:
        self.num_tokens += 1
        new = self._add(self._lengths[self._last] + 1, {}, self.num_tokens)
        state = self._last
        while state >= 0 and token_id not in self._next[state]:
            self._next[state][token_id] = new
            state = self._links[state]
        self._links[new] = 0 if state < 0 else self._ending(state, token_id)
        self._last = new
        self._note_match(self._links[new])

    def _ending(self, state: int, token_id: int) -> int:
        """Return the state of exactly the longest substring of `state` and then the token."""
        target = self._next[state][token_id]
        if self._lengths[target] == self._lengths[state] + 1:
            return target
        copy = self._add(self._lengths[state] + 1, dict(self._next[target]), self._ends[target])
        self._links[copy] = self._links[target]
        self._links[target] = copy
        while state >= 0 and self._next[state].get(token_id) == target:
            self._next[state][token_id] = copy
            state = self._links[state]
        return copy

    def _add(self, length: int, following: dict[int, int], end: int) -> int:
        self._next.append(following)
        self._links.append(0)
        self._lengths.append(length)
        self._ends.append(end)
        return len(self._lengths) - 1

    def _note_match(self, state: int) -> None:
        """Match the tokens of a state, which end here and ended before where it says."""
        self.match = Match(self._lengths[state], self._ends[state])
        self._ends[state] = self.num_tokens
