"""Heads whose rotated pairs are neighbours: dimensions 2 i and 2 i + 1, instead of i and i + half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sorted_rows(
    num_heads: int, head_dim: int, rotary_dim: int | None = None, first: int = 0
) -> NDArray[np.int64]:
    """Which row of a weight with interleaved pairs to put where: `(num_heads * head_dim,)`.

    `weight[sorted_rows(...)]` computes the same heads with all first members of pairs before all second
    ones, as our kernels rotate them. Biases and the weights of norms are sorted in the same way. Scores stay
    the same, because queries and keys are sorted alike. Only the `rotary_dim` dimensions from `first` on are
    rotated; None means all.
    """
    count = head_dim if rotary_dim is None else rotary_dim
    order = np.arange(head_dim)
    order[first : first + count] = first + np.arange(count).reshape(-1, 2).T.ravel()
    return (np.arange(num_heads)[:, None] * head_dim + order).ravel()
