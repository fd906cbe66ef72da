"""Norms by their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.models.parts.norm import Norm

Array = NDArray[Any]


def norms(width: int, epsilon: float = 1e-5) -> list[Norm]:
    """One of each kind."""
    return [
        Norm("rms", width, epsilon),
        Norm("layer", width, epsilon),
        Norm("layer", width, epsilon, bias=True),
    ]


def normalised(x: Array, spec: Norm, weight: Array, bias: Array) -> Array:
    """Rows `(1, s, K)` after a norm, in float64."""
    x = x.astype(np.float64)
    if spec.kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    scaled: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + spec.epsilon) * weight
    return scaled + bias if spec.bias else scaled
