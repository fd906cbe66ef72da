"""Y = X W^T for integer weights with a scale for each group, and activations as they are.

Each weight is widened to float32 in a register and multiplied by its scale. So only the weights are rounded,
but the kernel does several times the work of `integer_matmul`.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Addends, Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, tiled_product_macro
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector
from mlc_serve.quantization.packing import LANES, tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


def dequantized_matmul(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """X `(1, s, K)` float32, weights and their scales as `integer_matmul` takes them, a bias `(N,)` and
    a residual `(1, s, N)` float32 (read only with such an epilogue) -> Y `(1, s, N)`, or `(1, s, N / 2)` if
    it is gated. What is not read may be any tensor.
    """
    tiling = Tiling.fit(num_columns, groups.count(depth), 4 * depth, epilogue, (1, unit.rows))
    step = step_macro(depth, groups, tiling.tiles)
    product = tiled_product_macro(tiling, step, epilogue, out_dtype)
    y_columns = epilogue.out_columns(num_columns)
    has_bias, has_residual = epilogue.bias, epilogue.residual

    @T.prim_func(s_tir=True, private=True)
    def matmul(x: T.handle, w: T.handle, v: T.handle, b: T.handle, r: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), "float32")
        W = T.match_buffer(w, tiles16_integers_shape(num_columns, depth, groups), "uint8")
        V = T.match_buffer(v, tiles16_scale_shape(num_columns, depth, groups), groups.scale_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), out_dtype)
        if has_bias:
            B = T.match_buffer(b, (num_columns,), "float32")
        if has_residual:
            R = T.match_buffer(r, (1, num_rows, num_columns), "float32")
        with T.sblock("root"):
            product((X, W, V), Addends(B if has_bias else X, R if has_residual else X), Y, num_rows)

    return matmul


def step_macro(depth: int, groups: GroupFormat, tiles: int) -> Any:
    """The step of `all_rows_macro` for a group."""
    size = groups.group_size
    per_vector = 32 // groups.bits  # weights of a column that a vector holds
    is_whole = depth % per_vector == 0
    last_bit = tirx.const((1 << groups.bits) - 1, "int32")

    def stored(word: Any, index: Any) -> Any:
        """Integer `index` of the four or eight that a column has in a word."""
        shift = index * 8 if groups.bits == 8 else index % 4 * 8 + index // 4 * 4
        return tirx.bitwise_and(tirx.shift_right(word, tirx.Cast("int32", shift)), last_bit)

    @T.macro
    def add_weights(X, weights, totals, row, register, k, height):
        """One weight of each column times a value of each row."""
        for i in T.unroll(height):
            for lane in T.vectorized(LANES):
                totals[register + i * tiles, lane] = (
                    totals[register + i * tiles, lane] + X[0, row + i, k] * weights[lane]
                )

    @T.macro
    def add_vector(X, W, scales, totals, row, tile, register, part, height):
        with T.sblock("vector"):
            T.reads()
            T.writes()
            words = local((LANES,), "int32")
            weights = local((LANES,))
            words[vector(0)] = T.reinterpret("int32x16", W[tile, part, vector(0, 4 * LANES)])
            for index in T.unroll(per_vector):
                for lane in T.vectorized(LANES):
                    weights[lane] = (
                        T.Cast("float32", stored(words[lane], index)) - T.float32(groups.offset)
                    ) * scales[lane]
                if is_whole or part * per_vector + index < depth:
                    add_weights(X, weights, totals, row, register, part * per_vector + index, height)

    @T.macro
    def step(operands, totals, row, tile, group, height):
        with T.sblock("group"):
            T.reads()
            T.writes()
            X, W, V = operands
            scales = local((LANES,))
            for j in T.unroll(tiles):
                for lane in T.vectorized(LANES):
                    scales[lane] = T.Cast("float32", V[tile + j, group, lane])
                for i in T.serial(
                    T.min(size // per_vector, (depth - group * size + per_vector - 1) // per_vector)
                ):
                    add_vector(
                        X, W, scales, totals, row, tile + j, j, group * (size // per_vector) + i, height
                    )

    return step
