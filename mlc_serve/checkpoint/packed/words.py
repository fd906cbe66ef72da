"""Integers in 32-bit words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack_rows(words: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """The integers of 4 or 8 bits in the rows of int32 words `(n, w)`, of which the lowest bits come first:
    `(n, w * 32 / bits)`.
    """
    stored = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return stored
    halves = np.stack([stored & 15, stored >> 4], axis=2)
    return halves.reshape(len(words), -1)


def num_words(count: int, bits: int) -> int:
    """How many words hold `count` integers; the last one may be partly filled."""
    return -(-count * bits // 32)
