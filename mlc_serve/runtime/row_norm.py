"""The norm of rows of hidden states, on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class RowNorm:
    """Divides rows by their root mean square, from which their mean was subtracted before if it is
    `centered`, then multiplies them by a weight and adds a bias, `(width,)`, if there is one. `epsilon` is
    added to the mean square.
    """

    weight: Rows
    bias: Rows | None
    epsilon: float
    centered: bool

    def __call__(self, rows: Rows) -> Rows:
        """Rows `(n, width)` -> the same shape."""
        distances = rows - rows.mean(axis=1, keepdims=True) if self.centered else rows
        scale = 1 / np.sqrt(np.square(distances).mean(axis=1, keepdims=True) + np.float32(self.epsilon))
        result: Rows = distances * scale * self.weight
        return result if self.bias is None else result + self.bias
