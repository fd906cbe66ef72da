"""The mean and the spread of a row, for kernels that normalize by them."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def moments(width: int, epsilon: float) -> Any:
    """The macro `moments(X, row, first, mean, scale)`: mean[0] and scale[0] = 1 / sqrt(variance + epsilon) of
    the `width` values of X[0, row] from `first`.
    """
    step = lanes(width)

    @T.macro
    def add_up(sums, total):
        total[0] = T.float32(0)
        for lane in T.unroll(step):
            total[0] = total[0] + sums[lane]
        total[0] = total[0] / T.float32(width)

    @T.macro
    def moments(X, row, first, mean, scale):
        sums = local((step,))
        for lane in T.vectorized(step):
            sums[lane] = T.float32(0)
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                sums[lane] = sums[lane] + X[0, row, first + i * step + lane]
        add_up(sums, mean)
        for lane in T.vectorized(step):
            sums[lane] = T.float32(0)
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                sums[lane] = sums[lane] + (X[0, row, first + i * step + lane] - mean[0]) * (
                    X[0, row, first + i * step + lane] - mean[0]
                )
        add_up(sums, scale)
        scale[0] = T.float32(1) / T.sqrt(scale[0] + T.float32(epsilon))

    return moments
