"""The interface of a constraint, such as a grammar, on the tokens that a request may generate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Bit t % 32 of word t // 32 is set if token t may be drawn.
Words = npt.NDArray[np.int32]


class Constraint(Protocol):
    """Follows one sequence's output. Called on the engine's thread only.

    Accepted tokens are never taken back: drafts are passed as `ahead` and accepted only once they are kept,
    and a preempted request keeps its tokens.
    """

    def mask(self, words: Words, ahead: Sequence[int] = ()) -> None:
        """Set the bits of the tokens that may follow the accepted tokens and `ahead`.

        `words` `(ceil(vocab / 32),)` are zero before the call, and stay so if `ahead` itself is not allowed.
        An exception ends only this request.
        """

    def accept(self, token_ids: Sequence[int]) -> None:
        """Accept tokens that were drawn under the masks or forced. Raises nothing for such tokens."""

    def forced(self) -> Sequence[int]:
        """Return tokens that must come next, which need not be drawn; none if there is a choice."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow the accepted tokens, so that the output has ended."""
