"""The state of a model's sequences, with a companion that is told of every change."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.runtime.companion import Companion
from mlc_serve.runtime.model_functions import States


class AccompaniedState:
    """Implements engine.sequence_state.SequenceState. The pages are those of the model's own state."""

    def __init__(self, own: SequenceState, companion: Companion) -> None:
        self._own, self._companion = own, companion
        self.page_size, self.num_pages = own.page_size, own.num_pages
        self.can_fork = own.can_fork
        self.longest_pop = own.longest_pop
        self.layout = own.layout
        self._lengths: dict[int, int] = {}

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return self._own.num_free_pages

    def num_pages_of(self, num_tokens: int) -> int:
        """Return how many pages a sequence of `num_tokens` holds at most."""
        return self._own.num_pages_of(num_tokens)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the length of the longest sequence that holds at most `num_pages`."""
        return self._own.num_tokens_in(num_pages)

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        self._own.add_sequence(seq_id)
        self._companion.add_sequence(seq_id)
        self._lengths[seq_id] = 0

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`."""
        self._own.fork_sequence(parent, child, length)
        self._companion.fork_sequence(parent, child, length)
        self._lengths[child] = length

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        self._own.remove_sequence(seq_id)
        self._companion.remove_sequence(seq_id)
        del self._lengths[seq_id]

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        self._own.pop(seq_id, num_tokens)
        self._lengths[seq_id] -= num_tokens
        self._companion.truncate(seq_id, self._lengths[seq_id])

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """Note that a forward pass has appended the tokens of these steps, and given these states."""
        for step in steps:
            self._lengths[step.seq_id] += len(step.token_ids) + len(step.draft_ids)
        self._companion.passed(steps, states)

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Return a copy of pages of the model's own state."""
        return self._own.export_pages(seq_id, start, stop)

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Append pages to a sequence of the model's own state."""
        self._own.import_pages(seq_id, pages)
        self._lengths[seq_id] = pages.stop
        self._companion.imported(seq_id, pages.num_tokens)

    def clear(self) -> None:
        """Forget all sequences."""
        self._own.clear()
        self._companion.clear()
        self._lengths.clear()
