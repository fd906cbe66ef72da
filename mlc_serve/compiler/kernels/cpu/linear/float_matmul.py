"""Y = X W^T, for float weights packed in tiles of 16 output columns.

While a vector of weights is in a register, it is multiplied by up to eight rows of X, whose values are
broadcast from memory. Weights may be float16: they are widened when they are loaded.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Addends, Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, tiled_product_macro
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.quantization.packing import LANES, tiles16_shape


def float_matmul(
    num_columns: int, depth: int, weight_dtype: str, epilogue: Epilogue, out_dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """X `(1, s, K)` float32, W in the layout "tiles16", a bias `(N,)` and a residual `(1, s, N)`
    float32 (read only with such an epilogue) -> Y `(1, s, N)`, or `(1, s, N / 2)` if it is gated. What is not
    read may be any tensor.
    """
    tiling = Tiling.fit(num_columns, depth, 4 * depth, epilogue, (unit.tiles, unit.rows))
    product = tiled_product_macro(tiling, step_macro(tiling.tiles), epilogue, out_dtype)
    weight_shape = tiles16_shape(num_columns, depth)
    y_columns = epilogue.out_columns(num_columns)
    has_bias, has_residual = epilogue.bias, epilogue.residual

    @T.prim_func(s_tir=True, private=True)
    def matmul(x: T.handle, w: T.handle, b: T.handle, r: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), "float32")
        W = T.match_buffer(w, weight_shape, weight_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), out_dtype)
        if has_bias:
            B = T.match_buffer(b, (num_columns,), "float32")
        if has_residual:
            R = T.match_buffer(r, (1, num_rows, num_columns), "float32")
        with T.sblock("root"):
            product((X, W), Addends(B if has_bias else X, R if has_residual else X), Y, num_rows)

    return matmul


def step_macro(tiles: int) -> Any:
    """The step of `all_rows_macro` for one value of each row."""

    @T.macro
    def step(operands, totals, row, tile, k, height):
        X, W = operands
        for j in T.unroll(tiles):
            for i in T.unroll(height):
                for lane in T.vectorized(LANES):
                    totals[i * tiles + j, lane] = totals[i * tiles + j, lane] + X[0, row + i, k] * T.Cast(
                        "float32", W[tile + j, k, lane]
                    )

    return step
