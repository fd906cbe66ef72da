"""States that don't keep every token of a sequence: one keeps a window of the last ones, one is recurrent."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlc_serve.engine.sequence_pages import PageLayout, SequencePages


class FakeWindowedState:
    """A cache that keeps the last `window` tokens of each sequence, and shares no pages.

    Implements engine.sequence_state.SequenceState and testing.backend.State. It stores all tokens, but `seen`
    returns only those that a real cache would still keep.
    """

    can_fork = False
    longest_pop: int | None = None
    layout: PageLayout | None = None

    def __init__(self, page_size: int, num_pages: int, window: int) -> None:
        self.page_size = page_size
        self.num_pages = num_pages
        self.window = window
        self._sequences: dict[int, list[int]] = {}

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return self.num_pages - sum(self.num_pages_of(len(tokens)) for tokens in self._sequences.values())

    def num_pages_of(self, num_tokens: int) -> int:
        """Return the pages of the window. A window that begins within a page takes part of one more page."""
        return min(-(-num_tokens // self.page_size), -(-self.window // self.page_size) + 1)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the tokens that fit: any number if the pages suffice for the window."""
        return sys.maxsize if num_pages >= self.num_pages_of(sys.maxsize) else num_pages * self.page_size

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        if seq_id in self._sequences:
            raise RuntimeError(f"sequence {seq_id} is in use")
        self._sequences[seq_id] = []

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Raise RuntimeError: no pages can be shared, because the first tokens are dropped."""
        raise RuntimeError(f"sequence {parent} can't be forked at {length} to {child}")

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        del self._sequences[seq_id]

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        del self._sequences[seq_id][-num_tokens:]

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Raise RuntimeError: a sequence is more than its pages."""
        raise RuntimeError(f"the tokens [{start}, {stop}) of sequence {seq_id} can't be copied")

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Raise RuntimeError: a sequence is more than its pages."""
        raise RuntimeError(f"nothing can be appended to sequence {seq_id} at {pages.start}")

    def clear(self) -> None:
        """Forget all sequences."""
        self._sequences.clear()

    def append(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Append tokens to a sequence. Raises RuntimeError if there are not enough pages."""
        self._sequences[seq_id] += token_ids
        if self.num_free_pages < 0:
            raise RuntimeError("the KV cache is full")

    def num_tokens(self, seq_id: int) -> int:
        """Return the length of a sequence."""
        return len(self._sequences[seq_id])

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """Return what a model knows about the first `num_tokens` tokens: their number, and the last ones."""
        return [num_tokens, *self._sequences[seq_id][:num_tokens][-self.window :]]


class FakeRecurrentState(FakeWindowedState):
    """A state whose size does not depend on a sequence's length, so that it takes no pages.

    Only the number of sequences is limited. It keeps the states before the last `history` tokens.
    """

    def __init__(self, page_size: int, history: int) -> None:
        super().__init__(page_size, num_pages=0, window=0)
        self.longest_pop = history

    def num_pages_of(self, num_tokens: int) -> int:  # noqa: ARG002 - the interface's
        """Return 0."""
        return 0

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence. Raises RuntimeError if that state is not kept."""
        if self.longest_pop is not None and num_tokens > self.longest_pop:
            raise RuntimeError(f"sequence {seq_id} can't go back {num_tokens} tokens")
        super().pop(seq_id, num_tokens)

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """Return what a model knows about the first `num_tokens` tokens: each has left a trace."""
        return self._sequences[seq_id][:num_tokens]
