"""Weights whose groups are sets of columns, which need not be neighbours: GPTQ may have gone through them in
the order of their activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.packing import Parts
from mlc_serve.quantization.packed import PackedWeight

FLOATS = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class ColumnGroups:
    """The group of each column: `of_column` `(K,)`, or whole numbers of `size` neighbours if that is None."""

    size: int
    of_column: NDArray[Any] | None

    def are_neighbours(self) -> bool:
        """Whether each group is `size` columns that follow one another, and the groups are in order."""
        if self.of_column is None:
            return True
        return bool((self.of_column == np.arange(len(self.of_column)) // self.size).all())

    def floats(self, weight: PackedWeight) -> NDArray[np.float32]:
        """The weight in floating-point numbers. Its group size counts only if the groups are neighbours."""
        if self.of_column is None or self.are_neighbours():
            return weight.floats()
        result = (weight.integers - weight.zero[:, self.of_column]).astype(np.float32)
        result *= weight.scale.astype(np.float32)[:, self.of_column]
        return result


def size_within(depth: int, size: int | None) -> int:
    """The size of groups of a row, which is one group without a size, or with one that is longer."""
    return depth if size is None else min(size, depth)


def num_groups(depth: int, size: int | None) -> int:
    """How many groups a row has; the last may be partly filled."""
    return 1 if size is None else -(-depth // size)


def column_groups(parts: Parts, end: str, depth: int, size: int | None, count: int) -> ColumnGroups:
    """The groups that the tensor `end` states for `depth` columns, if there is one. Raises CheckpointError if
    it names another than the `count` groups.
    """
    size = size_within(depth, size)
    if not parts.has(end):
        return ColumnGroups(size, None)
    of_column = parts.tensor(end, "int32", "int64")
    if not ((of_column >= 0) & (of_column < count)).all():
        raise parts.error(end, f"names groups that are not between 0 and {count - 1}")
    return ColumnGroups(size, of_column)
