"""What a model keeps for its sequences between forward passes: keys and values, or a recurrent state."""

from __future__ import annotations

from typing import Protocol

from mlc_serve.engine.sequence_pages import PageLayout, SequencePages


class SequenceState(Protocol):
    """The state of sequences, in `num_pages` pages of `page_size` tokens each.

    The number of pages that a sequence may hold depends only on its length (`num_pages_of`), and appending
    tokens takes no more than the difference. If `can_fork` is true, sequences may share the pages of a common
    prefix: a fork at a multiple of page_size takes no page of its own until it grows. At most `longest_pop`
    tokens can be taken off a sequence after the forward pass that appended them; None means any number.

    Pages can be copied to and from other processes if there is a `layout`. There is none where a sequence's
    pages are not all that is needed to go on with it.
    """

    page_size: int
    num_pages: int
    can_fork: bool

    @property
    def longest_pop(self) -> int | None:
        """The most tokens that can be popped, or None for any number."""

    @property
    def layout(self) -> PageLayout | None:
        """How the bytes of a page are laid out, or None if pages can't be copied."""

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""

    def num_pages_of(self, num_tokens: int) -> int:
        """Return how many pages a sequence of `num_tokens` holds at most."""

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the length of the longest sequence that holds at most `num_pages`."""

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence under an id that is not in use."""

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`, a positive multiple of page_size.

        Called only where `can_fork` is true.
        """

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence; pages that no other sequence shares become free."""

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens`, at most `longest_pop`, off a sequence, which shares none of them with
        another.
        """

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Return a copy of the pages with the tokens at positions [start, stop) of a sequence, all of which
        are computed. Both are multiples of page_size, and `start` is less than `stop`.

        Called only where there is a `layout`.
        """

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Append pages to a sequence of `pages.start` tokens. It then is as if a forward pass had computed
        them. Their layout is `layout`, and there must be enough free pages.

        Called only where there is a `layout`.
        """

    def clear(self) -> None:
        """Forget all sequences."""
