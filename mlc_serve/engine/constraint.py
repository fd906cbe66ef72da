"""What restricts the tokens that a request may be answered with, such as a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Constraint(Protocol):
    """Follows one sequence's output. Called on the engine's thread only.

    Nothing that was accepted is taken back: drafts are looked at ahead of what was accepted, and preemption
    keeps a request's tokens.
    """

    def mask(self, ahead: Sequence[int] = ()) -> Mask:
        """Which tokens may come after those that were accepted, followed by `ahead`: one flag a token of the
        vocabulary. No token may come where `ahead` is not allowed itself.

        What it raises ends the request alone.
        """

    def accept(self, token_ids: Sequence[int]) -> None:
        """Go on by tokens that were drawn under the masks. Raises nothing for such tokens."""
