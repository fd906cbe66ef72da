"""The sequences of a model: which ids are in use, which pages each holds and which of these are shared.

The pool is the only writer of SequenceState between forward passes. It counts pages before the forward pass
that fills them, so that a plan never takes a page that isn't free. Runs on the engine's thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.engine.sequence_state import SequenceState


@dataclass(eq=False, slots=True)
class _Page:
    """A page is held by `num_holders` sequences; `num_pins` of them belong to running requests."""

    num_holders: int = 0
    num_pins: int = 0


@dataclass(eq=False, slots=True)
class _Sequence:
    num_tokens: int = 0
    pages: list[_Page] = field(default_factory=list)
    is_pinned: bool = True


class SequencePool:
    """Sequences are pinned while a request runs on them. The pages that only unpinned sequences hold become
    free when these are released. `page_size` is in tokens, `num_pages` counts all pages, and `can_fork` says
    whether sequences can share the pages of a common beginning. A sequence can shrink by `longest_shrink`
    tokens after a forward pass, or by any number if that is None. Pages can be copied to and from other
    processes if there is a `layout`.
    """

    def __init__(self, state: SequenceState) -> None:
        self._state = state
        self.page_size = state.page_size
        self.num_pages = state.num_pages
        self.can_fork = state.can_fork
        self.longest_shrink = state.longest_pop
        self.layout = state.layout
        self._sequences: dict[int, _Sequence] = {}
        self._free_ids: list[int] = []
        self._num_held = 0
        self._num_pinned = 0

    @property
    def num_free_pages(self) -> int:
        """The number of pages that no sequence holds now or after the forward pass that is being planned."""
        return self.num_pages - self._num_held

    @property
    def num_unpinned_pages(self) -> int:
        """The number of pages that would be free if all unpinned sequences were released."""
        return self.num_pages - self._num_pinned

    def num_pages_of(self, num_tokens: int) -> int:
        """Return how many pages a sequence of `num_tokens` holds."""
        return self._state.num_pages_of(num_tokens)

    def num_new_pages(self, seq_id: int, num_tokens: int) -> int:
        """Return how many more pages a sequence needs to hold `num_tokens` in all."""
        return max(0, self.num_pages_of(num_tokens) - len(self._sequences[seq_id].pages))

    def room(self, seq_id: int) -> int:
        """Return how many tokens fit into the last page of a sequence and all free ones."""
        sequence = self._sequences[seq_id]
        num_pages = len(sequence.pages) + self.num_free_pages
        return self._state.num_tokens_in(num_pages) - sequence.num_tokens

    def num_pinned_by_fork(self, parent: int, length: int) -> int:
        """Return how many pages a fork would pin that no running request has pinned yet."""
        shared = self._sequences[parent].pages[: length // self.page_size]
        return sum(page.num_pins == 0 for page in shared)

    def num_pages_held(self, seq_id: int) -> int:
        """Return how many pages a sequence holds."""
        return len(self._sequences[seq_id].pages)

    def num_unpinned_pages_of(self, seq_ids: Iterable[int]) -> int:
        """Return how many pages these sequences hold that no running request has pinned."""
        pages = {id(page): page for seq_id in seq_ids for page in self._sequences[seq_id].pages}
        return sum(page.num_pins == 0 for page in pages.values())

    def add(self) -> int:
        """Start an empty, pinned sequence and return its id."""
        seq_id = self._take_id()
        self._state.add_sequence(seq_id)
        self._sequences[seq_id] = _Sequence()
        return seq_id

    def fork(self, parent: int, length: int) -> int:
        """Start a pinned sequence with the first `length` tokens of another, and return its id.

        `length` is a multiple of the page size.
        """
        seq_id = self._take_id()
        self._state.fork_sequence(parent, seq_id, length)
        child = self._sequences[seq_id] = _Sequence(length)
        for page in self._sequences[parent].pages[: length // self.page_size]:
            self._hold(child, page)
        return seq_id

    def grow(self, seq_id: int, num_tokens: int) -> None:
        """Take the pages for `num_tokens` more tokens of a sequence, which the next forward pass appends.
        Raises RuntimeError if they are not free.
        """
        sequence = self._sequences[seq_id]
        length = sequence.num_tokens + num_tokens
        num_new = self._state.num_pages_of(length) - len(sequence.pages)
        if num_new > 0:
            self._take_pages(seq_id, sequence, num_new)
        sequence.num_tokens = length

    def give_back(self, seq_id: int, num_tokens: int) -> None:
        """Give back what `grow` took for tokens that no forward pass has appended."""
        sequence = self._sequences[seq_id]
        sequence.num_tokens -= num_tokens
        while len(sequence.pages) > self._state.num_pages_of(sequence.num_tokens):
            page = sequence.pages.pop()
            self._unpin(page)
            self._let_go(page)

    def shrink(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a pinned sequence. The last forward pass has appended them."""
        self._state.pop(seq_id, num_tokens)
        self.give_back(seq_id, num_tokens)

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Return a copy of the pages with the tokens at positions [start, stop) of a sequence, between two
        multiples of the page size. Raises RuntimeError if the sequence has no such pages.
        """
        length = self._sequences[seq_id].num_tokens
        is_whole = start % self.page_size == stop % self.page_size == 0
        if self.layout is None or not (is_whole and 0 <= start < stop <= length):
            raise RuntimeError(
                f"there are no pages of [{start}, {stop}) in sequence {seq_id} of {length} tokens"
            )
        return self._state.export_pages(seq_id, start, stop)

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Append pages that were exported here or elsewhere to a pinned sequence of `pages.start` tokens.

        Raises RuntimeError if it has another length, if the layout is another one, or if there are not enough
        free pages; nothing has changed then.
        """
        length = self._sequences[seq_id].num_tokens
        if pages.layout != self.layout or pages.start != length:
            raise RuntimeError(f"these pages don't fit behind the {length} tokens of sequence {seq_id}")
        self.grow(seq_id, pages.num_tokens)
        self._state.import_pages(seq_id, pages)

    def unpin(self, seq_id: int) -> None:
        """Note that no request runs on this sequence any more."""
        sequence = self._sequences[seq_id]
        sequence.is_pinned = False
        for page in sequence.pages:
            self._unpin(page)

    def release(self, seq_id: int) -> None:
        """Forget a sequence; its id may be used again."""
        if self._sequences[seq_id].is_pinned:
            self.unpin(seq_id)
        for page in self._sequences.pop(seq_id).pages:
            self._let_go(page)
        self._state.remove_sequence(seq_id)
        heapq.heappush(self._free_ids, seq_id)

    def clear(self) -> None:
        """Forget all sequences."""
        self._state.clear()
        self._sequences.clear()
        self._free_ids.clear()
        self._num_held = self._num_pinned = 0

    def check_idle(self) -> None:
        """Raise RuntimeError if a sequence is still pinned, or if SequenceState has another number of free
        pages than was counted here.
        """
        pinned = sorted(seq_id for seq_id, sequence in self._sequences.items() if sequence.is_pinned)
        if pinned or self._num_pinned:
            raise RuntimeError(
                f"no request runs, but sequences {pinned} are pinned with {self._num_pinned} pages"
            )
        if self._state.num_free_pages != self.num_free_pages:
            raise RuntimeError(
                f"{self._state.num_free_pages} pages are free, but {self.num_free_pages} were counted as free"
            )

    def _take_pages(self, seq_id: int, sequence: _Sequence, num_new: int) -> None:
        if num_new > self.num_free_pages:
            raise RuntimeError(
                f"{num_new} pages were planned for sequence {seq_id}, but {self.num_free_pages} are free"
            )
        for _ in range(num_new):
            self._hold(sequence, _Page())

    def _take_id(self) -> int:
        return heapq.heappop(self._free_ids) if self._free_ids else len(self._sequences)

    def _hold(self, sequence: _Sequence, page: _Page) -> None:
        sequence.pages.append(page)
        self._num_held += page.num_holders == 0
        page.num_holders += 1
        if sequence.is_pinned:
            self._num_pinned += page.num_pins == 0
            page.num_pins += 1

    def _unpin(self, page: _Page) -> None:
        page.num_pins -= 1
        self._num_pinned -= page.num_pins == 0

    def _let_go(self, page: _Page) -> None:
        page.num_holders -= 1
        self._num_held -= page.num_holders == 0
