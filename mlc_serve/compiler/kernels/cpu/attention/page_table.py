"""Which pages hold the keys of each sequence of a batch, as TVM's paged KV cache tells its kernels.

The expressions here become part of a kernel while TVM reads its text. None of this code runs with the kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, match_int32


class PageTable(NamedTuple):
    """Three int32 buffers: sequence b has the pages listed[indptr[b]:indptr[b + 1]], and `lengths` says how
    many keys the last of them holds.

    `lengths` is `(b,)`, or with `windowed` `(3, b)`: the keys in the last page, the first position of the
    window, and the number of positions at the beginning (attention sinks) that are seen too.
    """

    indptr: Any
    listed: Any
    lengths: Any
    windowed: bool

    def num_pages(self, b: Any) -> Any:
        """How many pages sequence b has."""
        return self.indptr[b + 1] - self.indptr[b]

    def page(self, b: Any, n: Any) -> Any:
        """Sequence b's nth page."""
        return self.listed[self.indptr[b] + n]

    def num_keys(self, b: Any) -> Any:
        """How many positions sequence b's pages hold, including those between sinks and window."""
        last_page = self.lengths[0, b] if self.windowed else self.lengths[b]
        count = self.num_pages(b)
        return tirx.if_then_else(count > 0, (count - 1) * PAGE_SIZE + last_page, 0)

    def sees(self, b: Any, position: Any) -> Any:
        """Whether a position of sequence b is among the sinks or in the window."""
        if not self.windowed:
            return tirx.const(True, "bool")
        return tirx.Or(position < self.lengths[2, b], position >= self.lengths[1, b])

    def sees_some(self, b: Any, first: Any, end: Any) -> Any:
        """Whether any position from `first` to before `end` is among the sinks or in the window."""
        if not self.windowed:
            return tirx.const(True, "bool")
        return tirx.Or(first < self.lengths[2, b], end > self.lengths[1, b])


def match_page_table(
    page_indptr: Any, page_values: Any, length_info: Any, batch: Any, *, windowed: bool
) -> PageTable:
    """The page table behind the three handles that TVM's cache passes for it."""
    shape = (3, batch) if windowed else (batch,)
    return PageTable(
        match_int32(page_indptr, batch + 1),
        match_int32(page_values, T.int32()),
        T.match_buffer(length_info, shape, "int32", elem_offset=T.int32()),
        windowed,
    )
