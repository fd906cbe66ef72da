"""The interface of what keeps something for each sequence beside the model's own state, such as a draft
model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.runtime.model_functions import States


class Companion(Protocol):
    """Is told what happens to sequences. Called on the engine's thread only.

    It may keep less than the model does, and raises nothing for lack of room. Lengths are in tokens. `taps`
    are the layers of the model whose states it reads (see runtime.library.Library.taps).
    """

    taps: tuple[int, ...]

    def add_sequence(self, seq_id: int) -> None:
        """A sequence starts, empty."""

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """The sequence `child` starts with the first `length` tokens of `parent`, a multiple of the page
        size.
        """

    def truncate(self, seq_id: int, length: int) -> None:
        """Only the first `length` tokens of a sequence stay."""

    def remove_sequence(self, seq_id: int) -> None:
        """A sequence ends."""

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """The model has computed these steps; drafts that it did not draw are truncated later.

        `states` has a row for each token, `token_ids` and then `draft_ids` of each step, with the states of
        the taps side by side. It is valid only until the next pass.
        """

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """The next `num_tokens` of a sequence were computed elsewhere, so that no pass has them."""

    def clear(self) -> None:
        """All sequences end."""
