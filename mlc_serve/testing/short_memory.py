"""States that do not keep every token of a sequence: a window of the last ones, and a recurrent state."""

from __future__ import annotations

import sys
from collections.abc import Sequence


class FakeWindowedState:
    """A cache that keeps the last `window` tokens of each sequence, in pages of which none is shared.

    Implements engine.sequence_state.SequenceState and testing.backend.State. It remembers all tokens, and
    shows a model only those that a real one would still keep.
    """

    can_fork = False

    def __init__(self, page_size: int, num_pages: int, window: int) -> None:
        self.page_size = page_size
        self.num_pages = num_pages
        self.window = window
        self._sequences: dict[int, list[int]] = {}

    @property
    def num_free_pages(self) -> int:
        """Pages that belong to no sequence."""
        return self.num_pages - sum(self.num_pages_of(len(tokens)) for tokens in self._sequences.values())

    def num_pages_of(self, num_tokens: int) -> int:
        """A window that begins within a page takes a part of one more."""
        return min(-(-num_tokens // self.page_size), -(-self.window // self.page_size) + 1)

    def num_tokens_in(self, num_pages: int) -> int:
        """Any number of them in as many pages as the window takes."""
        return sys.maxsize if num_pages >= self.num_pages_of(sys.maxsize) else num_pages * self.page_size

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        if seq_id in self._sequences:
            raise RuntimeError(f"sequence {seq_id} is in use")
        self._sequences[seq_id] = []

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Nothing can be shared, since the beginning goes."""
        raise RuntimeError(f"sequence {parent} can't be forked at {length} to {child}")

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        del self._sequences[seq_id]

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last tokens off a sequence."""
        del self._sequences[seq_id][-num_tokens:]

    def clear(self) -> None:
        """Forget all sequences."""
        self._sequences.clear()

    def append(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Store tokens after those of the sequence; RuntimeError if the pages don't suffice."""
        self._sequences[seq_id] += token_ids
        if self.num_free_pages < 0:
            raise RuntimeError("the KV cache is full")

    def num_tokens(self, seq_id: int) -> int:
        """Length of one sequence."""
        return len(self._sequences[seq_id])

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """What a model knows of the first tokens of a sequence: the last ones, and how many there were."""
        return [num_tokens, *self._sequences[seq_id][:num_tokens][-self.window :]]


class FakeRecurrentState(FakeWindowedState):
    """A state of one size for each sequence, however long it is: it takes no pages.

    How many sequences there may be is the only limit.
    """

    def __init__(self, page_size: int) -> None:
        super().__init__(page_size, num_pages=0, window=0)

    def num_pages_of(self, num_tokens: int) -> int:  # noqa: ARG002 - the interface's
        """None."""
        return 0

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """What a model knows of the first tokens of a sequence: a trace of each."""
        return self._sequences[seq_id][:num_tokens]
