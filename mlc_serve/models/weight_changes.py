"""How a checkpoint's tensor becomes the rows of a weight, if it is not stored as they are.

A change is applied to a floating-point tensor, and one that only moves whole rows to the integers and scales
of a quantized one as well. Biases are tensors of one dimension, whose rows are single values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class Change(Protocol):
    """What is done to a stored tensor."""

    def shape(self, stored: Shape) -> Shape:
        """The shape of the result for a tensor of the shape `stored`. Raises ValueError for a shape that the
        change can't be made to.
        """

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The result for a tensor."""


@runtime_checkable
class Reversible(Change, Protocol):
    """A change from whose result the stored tensor can be made again."""

    def undone(self, values: NDArray[Any]) -> NDArray[Any]:
        """The tensor to store, for the rows that `values` would make of it."""


@dataclass(frozen=True)
class Unchanged:
    """The tensor as it is stored."""

    def shape(self, stored: Shape) -> Shape:
        return stored

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return stored

    def undone(self, values: NDArray[Any]) -> NDArray[Any]:
        return values


@dataclass(frozen=True)
class Transposed:
    """The tensor is stored as `(K, N)`, as GPT-2 has it."""

    def shape(self, stored: Shape) -> Shape:
        return stored[::-1]

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(stored.T)


@dataclass(frozen=True)
class TransposedEach:
    """The tensor consists of matrices of `num_rows` rows, one below the other, and each of them is stored as
    `(K, N)`.
    """

    num_rows: int

    def shape(self, stored: Shape) -> Shape:
        rows, columns = stored
        if rows % self.num_rows:
            raise ValueError(f"there must be matrices of {self.num_rows} rows")
        return (rows // self.num_rows * columns, self.num_rows)

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        matrices = stored.reshape(-1, self.num_rows, stored.shape[1])
        return np.ascontiguousarray(matrices.swapaxes(1, 2)).reshape(-1, self.num_rows)


@dataclass(frozen=True)
class PlusOne:
    """The weight of a norm is stored less one, as Gemma and Nemotron have it."""

    def shape(self, stored: Shape) -> Shape:
        return stored

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return stored.astype(np.float32) + 1

    def undone(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.astype(np.float32) - 1


@dataclass(frozen=True)
class Rows:
    """Row n of the result is row `order[n]` of the stored tensor. Each row occurs once."""

    order: tuple[int, ...]

    def shape(self, stored: Shape) -> Shape:
        _check_rows(stored, len(self.order))
        return stored

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = stored[np.array(self.order)]
        return rows

    def undone(self, values: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = values[np.argsort(self.order)]
        return rows


@dataclass(frozen=True)
class SomeRows:
    """The same, but only some of the `num_stored` rows occur."""

    order: tuple[int, ...]
    num_stored: int

    def shape(self, stored: Shape) -> Shape:
        _check_rows(stored, self.num_stored)
        return (len(self.order), *stored[1:])

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = stored[np.array(self.order)]
        return rows


@dataclass(frozen=True)
class Row:
    """A tensor of one dimension is one row of the result."""

    def shape(self, stored: Shape) -> Shape:
        return (1, *stored)

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return stored[None]


@dataclass(frozen=True)
class Stacked:
    """The matrices of `number` experts are one tensor, `(E, N, K)`, and become `(E * N, K)`. Those that are
    stored as `(E, K, N)` are `transposed`. Biases `(E, N)`, which have two `axes`, become one vector.
    """

    number: int
    axes: int = 3
    transposed: bool = False

    def shape(self, stored: Shape) -> Shape:
        if len(stored) != self.axes or stored[0] != self.number:
            raise ValueError(f"there must be {self.number} parts with {self.axes - 1} axes each")
        each = stored[:0:-1] if self.transposed else stored[1:]
        return (self.number * each[0], *each[1:])

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(self._swapped(stored)).reshape(self.shape(stored.shape))

    def undone(self, values: NDArray[Any]) -> NDArray[Any]:
        return self._swapped(values.reshape(self.number, -1, *values.shape[1:]))

    def _swapped(self, each: NDArray[Any]) -> NDArray[Any]:
        return each.swapaxes(1, 2) if self.transposed else each


@dataclass(frozen=True)
class PairsApart:
    """Rows are stored as pairs, one of gate and one of up. In the result, the `inner` rows of gate of each
    expert come first.
    """

    inner: int

    def shape(self, stored: Shape) -> Shape:
        return stored

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        pairs = stored.reshape(-1, self.inner, 2, *stored.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(stored.shape)


@dataclass(frozen=True)
class Both:
    """One change after another."""

    first: Change
    second: Change

    def shape(self, stored: Shape) -> Shape:
        return self.second.shape(self.first.shape(stored))

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        return self.second.values(self.first.values(stored))


def _check_rows(stored: Shape, num_rows: int) -> None:
    if stored[:1] != (num_rows,):
        raise ValueError(f"there must be {num_rows} rows")
