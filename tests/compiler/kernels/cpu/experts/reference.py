"""Mixtures of experts written out in NumPy, one token and one expert after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.models.parts.experts import ClampedSwiGLU, ExpertActivation, Experts

Array = NDArray[Any]


def gated(activation: ExpertActivation, gate: Array, up: Array) -> Array:
    """What gate and up become."""
    if not isinstance(activation, ClampedSwiGLU):
        return np.asarray(gate / (1 + np.exp(-gate)) * up)
    gate, up = np.minimum(gate, activation.limit), np.clip(up, -activation.limit, activation.limit)
    return np.asarray(gate / (1 + np.exp(-activation.alpha * gate)) * (up + 1))


@dataclass(frozen=True)
class Weights:
    """The weights of all experts as checkpoints have them, `(E * N, K)`, and their biases or zeros."""

    gate_up: Array
    gate_up_bias: Array
    down: Array
    down_bias: Array

    @classmethod
    def random(cls, experts: Experts, hidden: int) -> Weights:
        """Some that leave the size of values as it is."""
        rng = np.random.default_rng(0)
        number, inner = experts.num_experts, experts.inner
        shapes = (number * 2 * inner, hidden), (number * hidden, inner)
        gate_up, down = (
            (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32) for shape in shapes
        )
        factor = float(experts.bias)
        biases = [(rng.standard_normal(len(w)) * factor).astype(np.float32) for w in (gate_up, down)]
        return cls(gate_up, biases[0], down, biases[1])


def mixed(experts: Experts, weights: Weights, x: Array, ids: Array, shares: Array) -> Array:
    """Rows `(s, H)`, their experts and shares `(s, k)` -> the sums of the shares of their results."""
    y = np.zeros(x.shape)
    hidden, inner = x.shape[1], experts.inner
    for token, choice in np.ndindex(*ids.shape):
        e = ids[token, choice]
        inside, outside = slice(e * 2 * inner, (e + 1) * 2 * inner), slice(e * hidden, (e + 1) * hidden)
        gate, up = np.split(weights.gate_up[inside] @ x[token] + weights.gate_up_bias[inside], 2)
        result = weights.down[outside] @ gated(experts.activation, gate, up) + weights.down_bias[outside]
        y[token] += shares[token, choice] * result
    return y
