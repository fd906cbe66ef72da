"""The state of sequences in a draft model, which follows that of the model that it drafts for."""

from __future__ import annotations

from mlc_serve.engine.sequence_state import SequenceState


class DraftCache:
    """A sequence's first `length` tokens are computed here; the others are not yet, or there was no room.

    Nothing has to fit: a sequence for which there are no pages is not drafted for.
    """

    def __init__(self, state: SequenceState) -> None:
        self._state = state
        self._lengths: dict[int, int] = {}

    def length(self, seq_id: int) -> int:
        """Return how many tokens of a sequence are computed."""
        return self._lengths[seq_id]

    def room(self, seq_id: int, num_taken: int) -> int:
        """Return how many tokens fit into a sequence if others take `num_taken` of the free pages."""
        length = self._lengths[seq_id]
        num_pages = self._state.num_pages_of(length) + self._state.num_free_pages - num_taken
        return self._state.num_tokens_in(num_pages) - length

    def num_new_pages(self, seq_id: int, num_tokens: int) -> int:
        """Return how many pages appending `num_tokens` to a sequence takes."""
        length = self._lengths[seq_id]
        return self._state.num_pages_of(length + num_tokens) - self._state.num_pages_of(length)

    def appended(self, seq_id: int, num_tokens: int) -> None:
        """Note that a forward pass has appended tokens to a sequence."""
        self._lengths[seq_id] += num_tokens

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        self._state.add_sequence(seq_id)
        self._lengths[seq_id] = 0

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with what is computed of the first `length` tokens of `parent`, in whole pages."""
        shared = min(length, self._lengths[parent]) // self._state.page_size * self._state.page_size
        if not shared or not self._state.can_fork:
            self.add_sequence(child)
            return
        self._state.fork_sequence(parent, child, shared)
        self._lengths[child] = shared

    def truncate(self, seq_id: int, length: int) -> None:
        """Forget the tokens of a sequence behind the first `length`."""
        surplus = self._lengths[seq_id] - length
        if surplus > 0:
            self._state.pop(seq_id, surplus)
            self._lengths[seq_id] = length

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        self._state.remove_sequence(seq_id)
        del self._lengths[seq_id]

    def clear(self) -> None:
        """Forget all sequences."""
        self._state.clear()
        self._lengths.clear()
