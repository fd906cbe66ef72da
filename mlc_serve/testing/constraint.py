"""A constraint that a test can foresee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlc_serve.engine.constraint import Mask


class FakeConstraint:
    """Allows at position i of the output the tokens of `allowed[i % len(allowed)]`.

    Implements engine.constraint.Constraint; raises RuntimeError if a token is accepted that was not allowed.
    """

    def __init__(self, allowed: Sequence[Sequence[int]], vocab_size: int) -> None:
        self._allowed = allowed
        self._vocab_size = vocab_size
        self._num_accepted = 0

    def mask(self, ahead: Sequence[int] = ()) -> Mask:
        """Which tokens are allowed after those ahead; none if one of these is not."""
        mask = np.zeros(self._vocab_size, np.bool_)
        if all(token_id in self._at(i) for i, token_id in enumerate(ahead)):
            mask[list(self._at(len(ahead)))] = True
        return mask

    def accept(self, token_ids: Sequence[int]) -> None:
        """Go on by tokens that must be allowed."""
        for token_id in token_ids:
            if token_id not in self._at(0):
                raise RuntimeError(f"token {token_id} is not allowed at position {self._num_accepted}")
            self._num_accepted += 1

    def _at(self, offset: int) -> Sequence[int]:
        return self._allowed[(self._num_accepted + offset) % len(self._allowed)]
