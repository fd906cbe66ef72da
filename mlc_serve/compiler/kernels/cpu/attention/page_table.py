"""Which pages hold the keys of each sequence of a batch, as TVM's paged KV cache tells its kernels.

The expressions here are put into kernels while TVM reads their text; nothing of this runs with a kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE


class PageTable(NamedTuple):
    """Three int32 buffers: sequence b has the pages listed[indptr[b]:indptr[b + 1]], and as many keys in the
    last of them as lengths says.

    `lengths` is `(b,)`, or with `windowed` `(3, b)`: the keys in the last page, the first position of the
    window, and how many positions before the window (attention sinks) are seen too.
    """

    indptr: Any
    listed: Any
    lengths: Any
    windowed: bool

    def num_pages(self, b: Any) -> Any:
        """How many pages sequence b has."""
        return self.indptr[b + 1] - self.indptr[b]

    def page(self, b: Any, n: Any) -> Any:
        """Its nth page."""
        return self.listed[self.indptr[b] + n]

    def num_keys(self, b: Any) -> Any:
        """How many positions its pages hold, those between sinks and window included."""
        last_page = self.lengths[0, b] if self.windowed else self.lengths[b]
        count = self.num_pages(b)
        return tirx.if_then_else(count > 0, (count - 1) * PAGE_SIZE + last_page, 0)

    def sees(self, b: Any, position: Any) -> Any:
        """Whether a position that is held is among the sinks or in the window."""
        if not self.windowed:
            return tirx.const(True, "bool")
        return tirx.Or(position < self.lengths[2, b], position >= self.lengths[1, b])

    def sees_some(self, b: Any, first: Any, end: Any) -> Any:
        """Whether any of the positions [first, end) is."""
        if not self.windowed:
            return tirx.const(True, "bool")
        return tirx.Or(first < self.lengths[2, b], end > self.lengths[1, b])
