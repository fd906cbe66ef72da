"""The pages of one sequence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]

_FIRST_CAPACITY = 16


class PageList:
    """The ids of the pages of a sequence, in order. `num_dropped` of its `num_tokens` are held no more."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.num_dropped = 0
        self._count = 0
        self._ids = np.empty(_FIRST_CAPACITY, np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> Ids:
        """The ids of all pages. They are valid until the list changes."""
        return self._ids[: self._count]

    @property
    def num_held(self) -> int:
        """How many tokens the pages hold."""
        return self.num_tokens - self.num_dropped

    def extend(self, ids: list[int] | Ids) -> None:
        """Append pages."""
        end = self._count + len(ids)
        if end > len(self._ids):
            grown = np.empty(max(end, 2 * len(self._ids)), np.int32)
            grown[: self._count] = self.ids
            self._ids = grown
        self._ids[self._count : end] = ids
        self._count = end

    def drop(self, first: int, end: int) -> Ids:
        """Take out the pages from `first` to before `end`, and return their ids."""
        taken = self._ids[first:end].copy()
        self._ids[first : self._count - len(taken)] = self._ids[end : self._count].copy()
        self._count -= len(taken)
        return taken

    def truncate(self, count: int) -> Ids:
        """Take off all pages after the first `count`, and return their ids."""
        taken = self._ids[count : self._count].copy()
        self._count = count
        return taken
