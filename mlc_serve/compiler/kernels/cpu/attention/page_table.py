"""Which pages hold the keys of each sequence of a batch.

The expressions here become part of a kernel while TVM reads its text. None of this code runs with the kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible


class PageTable(NamedTuple):
    """Three int32 buffers: sequence b has the pages listed[first[b]:first[b + 1]], which hold lengths[b]
    keys, those of its new tokens included. The buffers may be longer than the batch needs.

    The keys that count are those up to the key of one of its new tokens, which `num_later` others follow: of
    them, those that are `visible` through the token's window, or with `only_anchors` the anchors.
    """

    first: Any
    listed: Any
    lengths: Any
    visible: Visible
    only_anchors: bool = False
    num_later: Any = 0

    def of_row(self, num_later: Any) -> PageTable:
        """The table for the new token that so many others follow."""
        return self._replace(num_later=num_later)

    @property
    def is_windowed(self) -> bool:
        """Whether a token may not see the first keys of its sequence."""
        return self.visible.window is not None and not self.only_anchors

    def end(self, b: Any) -> Any:
        """The first of sequence b's keys that is too late for the token."""
        return self.lengths[b] - self.num_later

    def num_pages(self, b: Any) -> Any:
        """How many of sequence b's pages come before that key, or hold keys before it."""
        return (self.end(b) + (PAGE_SIZE - 1)) // PAGE_SIZE

    def page(self, b: Any, n: Any) -> Any:
        """Sequence b's nth page."""
        return self.listed[self.first[b] + n]

    def num_keys(self, b: Any) -> Any:
        """How many keys of sequence b count, with those before the window."""
        return self.visible.num_anchors(self.end(b)) if self.only_anchors else self.end(b)

    def first_key(self, b: Any) -> Any:
        """The first key of sequence b that the token sees."""
        return tirx.const(0, "int32") if self.only_anchors else self.visible.start(self.end(b))

    def first_page(self, b: Any) -> Any:
        """Which of sequence b's pages holds that key."""
        return self.first_key(b) // PAGE_SIZE

    def num_seen_pages(self, b: Any) -> Any:
        """How many pages hold keys of sequence b that the token sees."""
        return self.num_pages(b) - self.first_page(b)


def match_page_table(first_pages: Any, listed: Any, lengths: Any, visible: Visible) -> PageTable:
    """The page table behind three handles."""
    first, pages, keys = (T.match_buffer(x, (T.int32(),), "int32") for x in (first_pages, listed, lengths))
    return PageTable(first, pages, keys, visible)
