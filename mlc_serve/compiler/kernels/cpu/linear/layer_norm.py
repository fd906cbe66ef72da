"""Layer normalization of a sum of two tensors. A row is one task."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def add_layer_norm(width: int, epsilon: float) -> tirx.PrimFunc:
    """X and R `(1, s, width)`, weight and bias `(width,)` -> X + R less its mean, divided by
    sqrt(variance + epsilon), scaled and shifted; all float32.
    """
    step = lanes(width)
    add_up, add_squares = _sum_macro(step), _squares_macro(step)

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, residual: T.handle, weight: T.handle, bias: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        R = T.match_buffer(residual, (1, num_rows, width), "float32")
        W = T.match_buffer(weight, (width,), "float32")
        B = T.match_buffer(bias, (width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    sums = local((step,))
                    mean = local((1,))
                    scale = local((1,))
                    for lane in T.vectorized(step):
                        sums[lane] = T.float32(0)
                    for i in T.serial(width // step):
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = (
                                X[0, row, i * step + lane] + R[0, row, i * step + lane]
                            )
                        for lane in T.vectorized(step):
                            sums[lane] = sums[lane] + Y[0, row, i * step + lane]
                    add_up(sums, mean)
                    mean[0] = mean[0] / T.float32(width)
                    for lane in T.vectorized(step):
                        sums[lane] = T.float32(0)
                    for i in T.serial(width // step):
                        add_squares(Y, row, i, mean, sums)
                    add_up(sums, scale)
                    scale[0] = T.float32(1) / T.sqrt(scale[0] / T.float32(width) + T.float32(epsilon))
                    for i in T.serial(width // step):
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = (Y[0, row, i * step + lane] - mean[0]) * scale[
                                0
                            ] * W[i * step + lane] + B[i * step + lane]

    return norm


def _sum_macro(step: int) -> Any:
    """The macro `add_up(sums, total)`: total[0] is the sum of `step` values."""

    @T.macro
    def add_up(sums, total):
        total[0] = T.float32(0)
        for lane in T.unroll(step):
            total[0] = total[0] + sums[lane]

    return add_up


def _squares_macro(step: int) -> Any:
    """The macro `add_squares(Y, row, i, mean, sums)`: add vector i's squared distances from the mean."""

    @T.macro
    def add_squares(Y, row, i, mean, sums):
        for lane in T.vectorized(step):
            sums[lane] = sums[lane] + (Y[0, row, i * step + lane] - mean[0]) * (
                Y[0, row, i * step + lane] - mean[0]
            )

    return add_squares
