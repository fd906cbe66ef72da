"""The state of sequences in a model of which some layers attend and others are recurrent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.runtime.paged_kv import PagedKV
from mlc_serve.runtime.recurrent_state import RecurrentState


class HybridState:
    """Implements runtime.sequence_cache.SequenceCache. A sequence is in both states, under the same id, and
    takes the pages of its keys and values.
    """

    can_fork = False
    layout = None

    def __init__(self, paged: PagedKV, recurrent: RecurrentState) -> None:
        self._paged, self._recurrent = paged, recurrent
        self._both = (paged, recurrent)
        self.page_size, self.num_pages = paged.page_size, paged.num_pages
        self.longest_pop = recurrent.longest_pop
        self.arguments = (*paged.arguments, *recurrent.arguments)

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return self._paged.num_free_pages

    def num_pages_of(self, num_tokens: int) -> int:
        """Return the number of pages that `num_tokens` fill, the last one perhaps in part."""
        return self._paged.num_pages_of(num_tokens)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the number of tokens that fill `num_pages`."""
        return self._paged.num_tokens_in(num_pages)

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        for state in self._both:
            state.add_sequence(seq_id)

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Raise RuntimeError: the recurrent state at `length` is not kept."""
        self._recurrent.fork_sequence(parent, child, length)

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        for state in self._both:
            state.remove_sequence(seq_id)

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        for state in self._both:
            state.pop(seq_id, num_tokens)

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Raise RuntimeError: a recurrent state has no pages."""
        return self._recurrent.export_pages(seq_id, start, stop)

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Raise RuntimeError: a recurrent state has no pages."""
        self._recurrent.import_pages(seq_id, pages)

    def clear(self) -> None:
        """Forget all sequences."""
        for state in self._both:
            state.clear()

    def begin_forward(self, seq_ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Begin a forward pass. There must be enough free pages."""
        for state in self._both:
            state.begin_forward(seq_ids, lengths)

    def end_forward(self) -> None:
        """End the forward pass."""
        for state in self._both:
            state.end_forward()

    def result_of(self, returned: Any) -> Any:
        """Return the result of a function, which returns the recurrent state, too."""
        return self._recurrent.result_of(returned)
