"""Activations as kernels of their own, for products that can't apply them themselves. A row is one task."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.activation import activated
from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.models.parts.activation import Activation


def activate_rows(width: int, activation: Activation, *, gated: bool) -> tirx.PrimFunc:
    """X `(1, s, width)` -> activation(X) of the same shape, float32. If it is gated, X is
    `(1, s, 2 * width)`, gate before up, and the result is activation(gate) * up.
    """
    each_row = each_row_macro(_row_macro(width, activation, gated=gated))
    x_width = 2 * width if gated else width

    @T.prim_func(s_tir=True, private=True)
    def activate(x: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, x_width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row((X, Y), num_rows)

    return activate


def _row_macro(width: int, activation: Activation, *, gated: bool) -> Any:
    """The macro `row_of(operands, row)`, for the operands X and Y."""
    step = lanes(width)

    def result(X: Any, row: Any, i: Any) -> Any:
        value = activated(activation, X[0, row, i])
        return value * X[0, row, width + i] if gated else value

    @T.macro
    def row_of(operands, row):
        X, Y = operands
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                Y[0, row, i * step + lane] = result(X, row, i * step + lane)

    return row_of
