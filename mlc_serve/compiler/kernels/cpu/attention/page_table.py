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

    The keys that count are those that are `visible` through the window, or with `only_anchors` the anchors.
    """

    first: Any
    listed: Any
    lengths: Any
    visible: Visible
    only_anchors: bool = False

    @property
    def is_windowed(self) -> bool:
        """Whether the last token of a sequence may not see its first keys."""
        return self.visible.window is not None and not self.only_anchors

    def num_pages(self, b: Any) -> Any:
        """How many pages sequence b has."""
        return self.first[b + 1] - self.first[b]

    def page(self, b: Any, n: Any) -> Any:
        """Sequence b's nth page."""
        return self.listed[self.first[b] + n]

    def num_keys(self, b: Any) -> Any:
        """How many keys sequence b has."""
        return self.visible.num_anchors(self.lengths[b]) if self.only_anchors else self.lengths[b]

    def first_key(self, b: Any) -> Any:
        """The first key that sequence b's last token sees."""
        return tirx.const(0, "int32") if self.only_anchors else self.visible.start(self.lengths[b])

    def first_page(self, b: Any) -> Any:
        """Which of sequence b's pages holds that key."""
        return self.first_key(b) // PAGE_SIZE

    def num_seen_pages(self, b: Any) -> Any:
        """How many pages hold keys that sequence b's last token sees."""
        return self.num_pages(b) - self.first_page(b)


def match_page_table(first_pages: Any, listed: Any, lengths: Any, visible: Visible) -> PageTable:
    """The page table behind three handles."""
    first, pages, keys = (T.match_buffer(x, (T.int32(),), "int32") for x in (first_pages, listed, lengths))
    return PageTable(first, pages, keys, visible)
