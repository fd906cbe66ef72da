"""A constraint whose masks a test sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlc_serve.engine.constraint import Words


class FakeConstraint:
    """Allows the tokens of `allowed[i % len(allowed)]` at position i of the output, up to `length` tokens.

    Implements engine.constraint.Constraint. A position that allows one token forces it if `jumps`. Raises
    RuntimeError if a token is accepted that was not allowed, and IndexError for a token that `vocab_size`
    has no place for.
    """

    def __init__(
        self,
        allowed: Sequence[Sequence[int]],
        vocab_size: int,
        length: int | None = None,
        *,
        jumps: bool = False,
    ) -> None:
        self._allowed = allowed
        self._vocab_size = vocab_size
        self._length = length
        self._jumps = jumps
        self._num_accepted = 0

    def mask(self, words: Words, ahead: Sequence[int] = ()) -> None:
        """Set the bits of what is allowed after `ahead`; none if `ahead` itself is not allowed."""
        if not all(token_id in self._at(i) for i, token_id in enumerate(ahead)):
            return
        flags = np.zeros(self._vocab_size, np.bool_)
        flags[list(self._at(len(ahead)))] = True
        packed = np.packbits(flags, bitorder="little")
        words.view(np.uint8)[: len(packed)] = packed

    def accept(self, token_ids: Sequence[int]) -> None:
        """Accept tokens. Raises RuntimeError if one is not allowed."""
        for token_id in token_ids:
            if token_id not in self._at(0):
                raise RuntimeError(f"token {token_id} is not allowed at position {self._num_accepted}")
            self._num_accepted += 1

    def forced(self) -> Sequence[int]:
        """Return the tokens up to the first position that leaves a choice."""
        forced: list[int] = []
        while self._jumps and len(self._at(len(forced))) == 1 and len(forced) < len(self._allowed):
            forced += self._at(len(forced))
        return forced

    @property
    def is_complete(self) -> bool:
        """Whether `length` tokens were accepted."""
        return self._num_accepted == self._length

    def _at(self, offset: int) -> Sequence[int]:
        position = self._num_accepted + offset
        is_past = self._length is not None and position >= self._length
        return () if is_past else self._allowed[position % len(self._allowed)]
