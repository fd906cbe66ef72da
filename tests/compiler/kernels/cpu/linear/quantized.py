"""Products with quantized weights by their definition: random weights, and NumPy's results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat

Array = NDArray[Any]
GROUPS = {name: scheme.groups for name, scheme in SCHEMES.items() if scheme.groups is not None}
EIGHT_BITS, FOUR_BITS = GROUPS["q8f32_1"], GROUPS["q4f16_1"]
NUM_ROWS = (1, 2, 3, 4, 5, 7, 8, 13)


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
    least, most = -groups.offset, (1 << groups.bits) - 1 - groups.offset
    stored = rng.integers(least, most + 1, (num_columns, padded))
    stored[:2] = most
    stored[2:4] = least
    stored[:, depth:] = 0
    shape = (num_columns, padded // groups.group_size)
    scale = (rng.uniform(-1, 1, shape) / groups.limit / np.sqrt(depth)).astype(groups.scale_dtype)
    layout = "-paired" if epilogue == "gated" else ""
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


def with_epilogue(sums: Array, extra: Array, epilogue: Epilogue) -> Array:
    """Sums `(1, s, N)` after an epilogue."""
    if epilogue == "gated":
        gate, up = np.split(sums, 2, axis=2)
        sums = gate / (1 + np.exp(-gate)) * up
    return sums + extra if epilogue in ("bias", "residual") else sums


def random_extra(num_columns: int, num_rows: int, epilogue: Epilogue) -> Array:
    """A bias or a residual."""
    shape = (num_columns,) if epilogue == "bias" else (1, num_rows, num_columns)
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def empty_result(num_columns: int, num_rows: int, epilogue: Epilogue, dtype: str) -> Array:
    """A result full of NaN, which a kernel must overwrite."""
    columns = num_columns // 2 if epilogue == "gated" else num_columns
    return np.full((1, num_rows, columns), np.nan, dtype)
