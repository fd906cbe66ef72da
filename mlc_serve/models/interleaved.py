"""Rotary pairs that are neighbours, 2i and 2i + 1, and their order in halves, i and i + d / 2, which kernels
rotate faster. Scores do not change if queries and keys have their dimensions in the same other order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.models.weight_changes import Rows, Shape


def halves_of_rows(num_heads: int, head_dim: int, rotary_dim: int | None = None, first: int = 0) -> Rows:
    """Sorts the rows of a product that gives `num_heads` heads. In each head, `rotary_dim` dimensions from
    `first` on are rotary pairs; None means all.
    """
    order = _order(head_dim, rotary_dim, first)
    return Rows(tuple(head * head_dim + row for head in range(num_heads) for row in order))


@dataclass(frozen=True)
class HalvesOfHeads:
    """Sorts the last dimension `head_dim` of a norm's weight, which may be that of all heads at once."""

    head_dim: int

    def shape(self, stored: Shape) -> Shape:
        return stored

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        heads = stored.reshape(-1, self.head_dim)
        sorted_heads: NDArray[Any] = heads[:, np.array(_order(self.head_dim))].reshape(stored.shape)
        return sorted_heads


def _order(head_dim: int, rotary_dim: int | None = None, first: int = 0) -> list[int]:
    """The dimensions of a head in their new order."""
    count = head_dim if rotary_dim is None else rotary_dim
    paired = [*range(first, first + count, 2), *range(first + 1, first + count, 2)]
    return [*range(first), *paired, *range(first + count, head_dim)]
