"""What a model keeps of its sequences between forward passes: keys and values, or a recurrent state."""

from __future__ import annotations

from typing import Protocol


class SequenceState(Protocol):
    """The state of sequences, in pages of `page_size` tokens, of which there are `num_pages`.

    How many pages a sequence holds follows from its length alone (`num_pages_of`), and appending tokens takes
    exactly the pages that the longer sequence holds more. Where `can_fork` is true, sequences may share the
    pages of a common beginning: a fork at a multiple of page_size takes no page of its own until it grows.
    """

    page_size: int
    num_pages: int
    can_fork: bool

    @property
    def num_free_pages(self) -> int:
        """Pages that belong to no sequence."""

    def num_pages_of(self, num_tokens: int) -> int:
        """Pages that a sequence of so many tokens holds."""

    def num_tokens_in(self, num_pages: int) -> int:
        """Tokens of the longest sequence that holds at most so many pages."""

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence under an id that is not in use."""

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`, a positive multiple of page_size.

        Called only where `can_fork` is true.
        """

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence; pages that no other sequence shares become free."""

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take off the last `num_tokens` tokens of a sequence, which it does not share."""

    def clear(self) -> None:
        """Forget all sequences."""
