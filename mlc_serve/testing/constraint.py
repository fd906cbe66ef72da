"""A constraint whose masks a test sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlc_serve.engine.constraint import Mask


class FakeConstraint:
    """Allows the tokens of `allowed[i % len(allowed)]` at position i of the output.

    Implements engine.constraint.Constraint. Raises RuntimeError if a token is accepted that was not allowed.
    """

    def __init__(self, allowed: Sequence[Sequence[int]], vocab_size: int) -> None:
        self._allowed = allowed
        self._vocab_size = vocab_size
        self._num_accepted = 0

    def mask(self, ahead: Sequence[int] = ()) -> Mask:
        """Return which tokens are allowed after `ahead`; none if `ahead` itself is not allowed."""
        mask = np.zeros(self._vocab_size, np.bool_)
        if all(token_id in self._at(i) for i, token_id in enumerate(ahead)):
            mask[list(self._at(len(ahead)))] = True
        return mask

    def accept(self, token_ids: Sequence[int]) -> None:
        """Accept tokens. Raises RuntimeError if one is not allowed."""
        for token_id in token_ids:
            if token_id not in self._at(0):
                raise RuntimeError(f"token {token_id} is not allowed at position {self._num_accepted}")
            self._num_accepted += 1

    def _at(self, offset: int) -> Sequence[int]:
        return self._allowed[(self._num_accepted + offset) % len(self._allowed)]
