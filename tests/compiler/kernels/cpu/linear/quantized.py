"""Products with quantized weights by their definition: random weights, and NumPy's results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.models.parts.activation import Activation
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat

Array = NDArray[Any]
GROUPS = {name: scheme.groups for name, scheme in SCHEMES.items() if scheme.groups is not None}
EIGHT_BITS, FOUR_BITS, THREE_BITS = (GROUPS[name] for name in ("q8f32_1", "q4f16_1", "q3f16_1"))
NUM_ROWS = (1, 2, 3, 4, 5, 7, 8, 13, 37)

PLAIN, BIAS, RESIDUAL = Epilogue(), Epilogue(bias=True), Epilogue(residual=True)
GATED = Epilogue(activation="silu", gated=True)
# With everything that an epilogue can have.
GATED_BIAS = Epilogue(bias=True, activation="gelu_tanh", gated=True)
ACTIVATED = Epilogue(bias=True, activation="gelu")
SCALED = Epilogue(bias=True, scale=0.25, residual=True)

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": np.vectorize(lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2)))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
}


@dataclass(frozen=True)
class Weight:
    """A `(N, K)` weight as kernels take it, and the numbers `(N, Kp)` that it stands for."""

    packed: Array
    scale: Array
    dense: Array


def random_weight(num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue) -> Weight:
    """A random weight, which has the extreme integers that may be stored next to each other, and scales of
    both signs: other programs' integers are taken as they are.
    """
    rng = np.random.default_rng(0)
    padded = groups.padded(depth)
    least, most = -groups.offset, 2 * groups.limit + 1 - groups.offset
    stored = rng.integers(least, most + 1, (num_columns, padded))
    stored[:2] = most
    stored[2:4] = least
    stored[:, depth:] = 0
    shape = (num_columns, padded // groups.group_size)
    scale = (rng.uniform(-1, 1, shape) / groups.limit / np.sqrt(depth)).astype(groups.scale_dtype)
    layout = "-paired" if epilogue.gated else ""
    packed = pack((stored + groups.offset).astype(np.uint8), f"tiles16-u{groups.bits}{layout}", groups.offset)
    dense = stored * scale.astype(np.float64).repeat(groups.group_size, axis=1)
    return Weight(packed, pack(scale, f"tiles16-scale{layout}"), dense)


def rounded(x: Array, groups: GroupFormat) -> tuple[Array, Array]:
    """Integers `(1, s, Kp)` and scales `(1, s, G)` of activations `(1, s, K)`, rounded to 127 steps."""
    padded = np.zeros((*x.shape[:2], groups.padded(x.shape[2])))
    padded[:, :, : x.shape[2]] = x
    parts = padded.reshape(*x.shape[:2], -1, groups.group_size)
    peak = np.abs(parts).max(axis=3)
    steps = np.rint(parts * (127 / np.maximum(peak, 1e-30))[..., None])
    return steps.reshape(padded.shape), peak / 127


def with_epilogue(sums: Array, addends: tuple[Array, Array], epilogue: Epilogue) -> Array:
    """Sums `(1, s, N)` after an epilogue, with a bias and a residual that it may read."""
    bias, residual = addends
    sums = sums + bias if epilogue.bias else sums
    gate, up = np.split(sums, 2, axis=2) if epilogue.gated else (sums, 1.0)
    if epilogue.activation is not None:
        gate = ACTIVATIONS[epilogue.activation](gate)
    return gate * up * epilogue.scale + (residual if epilogue.residual else 0.0)


def random_addends(num_columns: int, num_rows: int) -> tuple[Array, Array]:
    """A bias and a residual."""
    rng = np.random.default_rng(1)
    return (
        rng.standard_normal(num_columns, dtype=np.float32),
        rng.standard_normal((1, num_rows, num_columns), dtype=np.float32),
    )


def empty_result(num_columns: int, num_rows: int, epilogue: Epilogue, dtype: str) -> Array:
    """A result full of NaN, which a kernel must overwrite."""
    return np.full((1, num_rows, epilogue.out_columns(num_columns)), np.nan, dtype)
