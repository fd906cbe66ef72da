"""What a model that drafts from hidden states has not computed yet of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlc_serve.runtime.state_buffer import States


class PendingPairs:
    """The target's states of tokens at consecutive positions, from `start` on, and the tokens themselves.

    The state of a token forms a pair with the token after it, so that the last state waits for its token.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self._ids: list[int] = []
        self._states: list[States] = []

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
        """Forget the states from the position `end` on."""
        surplus = self.end - end
        assert surplus <= len(self._ids), "pairs that were computed are taken back"
        while surplus > 0:
            last = self._states.pop()
            if len(last) > surplus:
                self._states.append(last[:-surplus])
            count = min(len(last), surplus)
            del self._ids[-count:]
            surplus -= count

    def before(self, end: int) -> PendingPairs:
        """The same up to the position `end`, which may come before all of them."""
        part = PendingPairs(min(self.start, end))
        part._ids, part._states = list(self._ids), list(self._states)
        if end < self.start:
            part._ids, part._states = [], []
        part.truncate(min(self.end, end)) if part._ids else None
        return part

    def take(self, count: int, next_id: int | None = None) -> tuple[list[int], States]:
        """Remove the first `count` states, and return the tokens after each of them, and the states
        `(count, width)`. `next_id` is the token after the last state, if it is known.
        """
        following = [*self._ids[1:], *(() if next_id is None else (next_id,))]
        assert count <= len(following), "a pair lacks its token"
        states = np.concatenate(self._states)
        self._states = [states[count:].copy()] if count < len(states) else []
        del self._ids[:count]
        self.start += count
        return following[:count], states[:count]

    def drop(self) -> None:
        """Forget all states but the last one, whose token is not known."""
        if self.num_pairs:
            self.take(self.num_pairs)
