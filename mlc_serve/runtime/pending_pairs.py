"""What a model that drafts from hidden states has not computed yet of a sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mlc_serve.runtime.model_functions import States


class PendingPairs:
    """The target's states of tokens at consecutive positions, from `start` on, and the tokens themselves.

    The state of a token forms a pair with the token after it, so that the last state waits for its token.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self._ids: list[int] = []
        self._states: deque[States] = deque()  # parts, each of one or more rows

    @property
    def end(self) -> int:
        """The position after the last state."""
        return self.start + len(self._ids)

    @property
    def num_states(self) -> int:
        """The number of states."""
        return len(self._ids)

    @property
    def num_pairs(self) -> int:
        """The number of states whose next token is known."""
        return max(len(self._ids) - 1, 0)

    def append(self, token_ids: Sequence[int], states: States) -> None:
        """Append tokens and their states, which are copied."""
        self._ids += token_ids
        self._states.append(states.copy())

    def truncate(self, end: int) -> None:
        """Forget the states from the position `end` on, none of which has been taken."""
        if end < self.start:
            raise RuntimeError("the draft model has computed a pair that is taken back")
        while self.end > end:
            last = self._states.pop()
            num_left = max(len(last) - (self.end - end), 0)
            del self._ids[len(self._ids) - len(last) + num_left :]
            if num_left:
                self._states.append(last[:num_left])

    def before(self, end: int) -> PendingPairs:
        """What is there of the positions before `end`."""
        part = PendingPairs(min(self.start, end))
        if end > self.start:
            part._ids, part._states = list(self._ids), self._states.copy()
            part.truncate(end)
        return part

    def take(self, count: int, next_id: int | None = None) -> tuple[list[int], list[States]]:
        """Remove the first `count` states, and return the tokens after each of them, and the states in parts.
        `next_id` is the token after the last state, if it is known.
        """
        following = [*self._ids[1:], *(() if next_id is None else (next_id,))]
        if count > len(following):
            raise RuntimeError("a state lacks its token")
        states = self._first_states(count)
        del self._ids[:count]
        self.start += count
        return following[:count], states

    def _first_states(self, count: int) -> list[States]:
        """Remove and return the first `count` states."""
        taken: list[States] = []
        while count:
            part = self._states.popleft()
            taken.append(part[:count])
            if len(part) > count:
                self._states.appendleft(part[count:])
            count -= len(taken[-1])
        return taken
