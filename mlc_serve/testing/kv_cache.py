"""A KV cache that stores token ids, and counts pages as a real one does. Knows no model."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlc_serve.engine.sequence_pages import PageLayout, SequencePages

_TOKEN_BYTES = 8  # of a token in exported pages


@dataclass
class _Page:
    token_ids: list[int] = field(default_factory=list)
    num_owners: int = 1


class FakeKVCache:
    """Stores token ids instead of keys and values, and counts pages as a real cache does.

    Implements engine.sequence_state.SequenceState and testing.backend.State. Raises RuntimeError for calls
    that would corrupt a real cache: no page is free, an id is in use or unknown, a fork is not at a multiple
    of the page size, a pop reaches into shared pages, or pages that are exported or imported are not those of
    the sequence.
    """

    can_fork = True
    longest_pop = None

    def __init__(self, page_size: int, num_pages: int) -> None:
        self.page_size = page_size
        self.num_pages = num_pages
        self.layout = PageLayout("fake tokens", page_size, page_size * _TOKEN_BYTES)
        self._num_used = 0
        self._sequences: dict[int, list[_Page]] = {}

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return self.num_pages - self._num_used

    def num_pages_of(self, num_tokens: int) -> int:
        """Return the number of pages that `num_tokens` fill, the last one perhaps in part."""
        return -(-num_tokens // self.page_size)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the number of tokens that fill `num_pages`."""
        return num_pages * self.page_size

    @property
    def seq_ids(self) -> set[int]:
        """The ids of the sequences that are stored now."""
        return set(self._sequences)

    def token_ids(self, seq_id: int) -> list[int]:
        """Return the tokens of a sequence."""
        return [token_id for page in self._pages(seq_id) for token_id in page.token_ids]

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """Return what a model knows about the first `num_tokens` tokens of a sequence: all of them."""
        return self.token_ids(seq_id)[:num_tokens]

    def num_tokens(self, seq_id: int) -> int:
        """Return the length of a sequence."""
        return sum(len(page.token_ids) for page in self._pages(seq_id))

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        self._require(seq_id not in self._sequences, f"sequence {seq_id} is in use")
        self._sequences[seq_id] = []

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` on the pages that hold the first `length` tokens of `parent`."""
        aligned = length > 0 and length % self.page_size == 0
        self._require(aligned, f"a fork at {length} is not at a multiple of {self.page_size}")
        self._require(
            length <= self.num_tokens(parent), f"a fork at {length} is past the end of sequence {parent}"
        )
        self.add_sequence(child)
        shared = self._pages(parent)[: length // self.page_size]
        for page in shared:
            page.num_owners += 1
        self._sequences[child] = list(shared)

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence; pages that no other sequence shares become free."""
        for page in self._pages(seq_id):
            self._disown(page)
        del self._sequences[seq_id]

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        self._require(
            num_tokens <= self.num_tokens(seq_id), f"sequence {seq_id} is shorter than {num_tokens}"
        )
        pages = self._pages(seq_id)
        touched = pages[(self.num_tokens(seq_id) - num_tokens) // self.page_size :]
        self._require(
            all(page.num_owners == 1 for page in touched),
            f"a pop reaches into pages that sequence {seq_id} shares",
        )
        while num_tokens:
            taken = min(num_tokens, len(pages[-1].token_ids))
            del pages[-1].token_ids[-taken:]
            num_tokens -= taken
            if not pages[-1].token_ids:
                self._disown(pages.pop())

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Return the tokens at positions [start, stop) of a sequence as bytes."""
        held = self.token_ids(seq_id)
        self._require(0 <= start < stop <= len(held), f"[{start}, {stop}) is not in sequence {seq_id}")
        return SequencePages(self.layout, start, array("q", held[start:stop]).tobytes())

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Append tokens to a sequence of `pages.start` tokens."""
        self._require(pages.layout == self.layout, "the pages have another layout")
        self._require(
            self.num_tokens(seq_id) == pages.start, f"sequence {seq_id} does not end at {pages.start}"
        )
        self.append(seq_id, memoryview(pages.data).cast("B").cast("q").tolist())

    def clear(self) -> None:
        """Forget all sequences."""
        self._sequences.clear()
        self._num_used = 0

    def append(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Append tokens to a sequence, taking a new page whenever the last one is full."""
        pages = self._pages(seq_id)
        for token_id in token_ids:
            if not pages or len(pages[-1].token_ids) == self.page_size:
                self._require(self.num_free_pages > 0, "the KV cache is full")
                self._num_used += 1
                pages.append(_Page())
            pages[-1].token_ids.append(token_id)

    def _pages(self, seq_id: int) -> list[_Page]:
        self._require(seq_id in self._sequences, f"there is no sequence {seq_id}")
        return self._sequences[seq_id]

    def _disown(self, page: _Page) -> None:
        page.num_owners -= 1
        self._num_used -= page.num_owners == 0

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise RuntimeError(message)
