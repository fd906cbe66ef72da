"""How the vector of an input is made from the hidden states of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

from mlc_serve.engine.embedder import Vectors

_LEAST_NORM = 1e-12  # so that a vector of zeros stays one


class PoolingMode(Enum):
    """Which hidden states make the vector."""

    MEAN = "mean"
    CLS = "cls"  # that of the first token
    LAST = "last"  # that of the last token


@dataclass(frozen=True)
class Pooling:
    """How vectors are made. If `normalizes`, they have the length 1. `max_tokens` is the longest input that
    the model was trained for, if the checkpoint says so.
    """

    mode: PoolingMode
    normalizes: bool = True
    max_tokens: int | None = None

    def pool(self, states: Vectors, first_rows: Sequence[int]) -> Vectors:
        """Return a vector for each input, from the states `(s, width)` of their tokens. Input i has the rows
        from first_rows[i] to before first_rows[i + 1].
        """
        match self.mode:
            case PoolingMode.MEAN:
                pooled = np.stack([states[first:end].mean(axis=0) for first, end in pairwise(first_rows)])
            case PoolingMode.CLS:
                pooled = states[list(first_rows[:-1])]
            case PoolingMode.LAST:
                pooled = states[[end - 1 for end in first_rows[1:]]]
        return normalized(pooled) if self.normalizes else pooled


def normalized(vectors: Vectors) -> Vectors:
    """Return vectors of length 1 in the same directions."""
    lengths = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True))
    result: Vectors = vectors / np.maximum(lengths, np.float32(_LEAST_NORM))
    return result
