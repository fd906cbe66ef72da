"""The tables of one forward pass, in the tensors that a library's functions take on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tvm

from mlc_serve.runtime.page_list import Ids, PageList


class TableSizes(NamedTuple):
    """The most sequences and rows of a pass, and the most pages of all its sequences together, where a page
    is counted for each sequence that it belongs to.
    """

    sequences: int
    rows: int
    pages: int


class PassTables:
    """What compiler.layers.page_state.PassTables describes. `tensors` are the same for every pass: each pass
    overwrites what they contain.
    """

    def __init__(self, sizes: TableSizes, page_size: int) -> None:
        lengths = (
            1,
            sizes.rows,
            sizes.rows,
            sizes.sequences + 1,
            sizes.sequences + 1,
            sizes.pages,
            sizes.sequences,
        )
        self.tensors = [tvm.runtime.empty((length,), "int32", tvm.cpu()) for length in lengths]
        arrays: Any = [np.from_dlpack(tensor) for tensor in self.tensors]
        self._num_sequences: Ids = arrays[0]
        self._positions, self._slots, self._first_rows, self._first_pages = arrays[1:5]
        self._ids: Ids = arrays[5]
        self._lengths: Ids = arrays[6]
        self._first_rows[0] = self._first_pages[0] = 0
        self._numbers = np.arange(sizes.rows, dtype=np.int32)
        self._page_size = page_size

    def write(self, sequences: Sequence[PageList], num_new: Sequence[int]) -> None:
        """Describe a pass over the last `num_new` tokens of each sequence."""
        count, first = len(sequences), self._first_pages
        lengths = self._lengths[:count]
        self._num_sequences[0] = count
        lengths[:] = [sequence.num_held for sequence in sequences]
        ids = [sequence.ids for sequence in sequences]
        np.cumsum(list(map(len, ids)), out=first[1 : count + 1])
        np.concatenate(ids, out=self._ids[: first[count]])
        self._write_rows(lengths, num_new)
        dropped = [sequence.num_dropped for sequence in sequences]
        if any(dropped):
            self._positions[: sum(num_new)] += np.repeat(dropped, num_new).astype(np.int32)

    def _write_rows(self, lengths: Ids, num_new: Sequence[int]) -> None:
        count = len(lengths)
        rows = self._first_rows[: count + 1]
        np.cumsum(num_new, out=rows[1:])
        num_rows = int(rows[-1])
        first_pages = self._first_pages[:count]
        positions, slots = self._positions[:num_rows], self._slots[:num_rows]
        if num_rows == count:
            np.subtract(lengths, 1, out=positions)
        else:
            last_rows = np.repeat(rows[1:] - lengths, num_new)
            np.subtract(self._numbers[:num_rows], last_rows, out=positions)
            first_pages = np.repeat(first_pages, num_new)
        pages, places = np.divmod(positions, self._page_size)
        np.take(self._ids, pages + first_pages, out=slots, mode="clip")
        slots *= self._page_size
        slots += places
