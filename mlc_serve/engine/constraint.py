"""The interface of a constraint, such as a grammar, on the tokens that a request may generate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Constraint(Protocol):
    """Follows one sequence's output. Called on the engine's thread only.

    Accepted tokens are never taken back: drafts are passed as `ahead` and accepted only once they are kept,
    and a preempted request keeps its tokens.
    """

    def mask(self, ahead: Sequence[int] = ()) -> Mask:
        """Return which tokens may follow the accepted tokens and `ahead`: one flag per token of the
        vocabulary. All flags are False if `ahead` itself is not allowed.

        An exception ends only this request.
        """

    def accept(self, token_ids: Sequence[int]) -> None:
        """Accept tokens that were drawn under the masks. Raises nothing for such tokens."""
