"""Y = X W^T for weights of type bfloat16, two of a column side by side.

AVX512-BF16 adds up pairs of products. With it the kernel first rounds the rows to bfloat16, in memory of its
own. Without it weights are widened to float32 in registers, and rows stay as they are.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Addends, Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, tiled_product_macro
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import Bfloat16Multiplier, FloatMultiplier
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import FEW_ROWS
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector
from mlc_serve.quantization.packing import LANES, tiles16_pairs_shape


def bf16_matmul(
    num_columns: int, depth: int, epilogue: Epilogue, out_dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """X `(1, s, K)` float32, W in the layout "tiles16-pairs", a bias `(N,)` and a residual `(1, s, N)`
    float32 (read only with such an epilogue) -> Y `(1, s, N)`, or `(1, s, N / 2)` if it is gated. What is not
    read may be any tensor.
    """
    weight_shape = tiles16_pairs_shape(num_columns, depth)
    tiling = Tiling.fit(num_columns, weight_shape[1], 2 * depth, epilogue, (unit.tiles, unit.rows))
    step = pair_step_macro(tiling.tiles) if unit.has_pairs else widened_step_macro(depth, tiling.tiles)
    product = tiled_product_macro(tiling, step, epilogue, out_dtype)
    round_rows = rounding_macro(depth)
    num_words = -(-depth // LANES) * LANES // 2
    y_columns = epilogue.out_columns(num_columns)
    has_bias, has_residual = epilogue.bias, epilogue.residual
    definitions = Bfloat16Multiplier.definitions if unit.has_pairs else FloatMultiplier.definitions

    @T.macro
    def body(X, W, addends, Y, num_rows):
        if unit.has_pairs:
            words = T.sblock_alloc_buffer((1, num_rows, num_words), "uint32")
            round_rows(X, words, num_rows)
            product((words, W), addends, Y, num_rows)
        else:
            product((X, W), addends, Y, num_rows)

    @T.prim_func(s_tir=True, private=True)
    def matmul(x: T.handle, w: T.handle, b: T.handle, r: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), "float32")
        W = T.match_buffer(w, weight_shape, "bfloat16")
        Y = T.match_buffer(y, (1, num_rows, y_columns), out_dtype)
        if has_bias:
            B = T.match_buffer(b, (num_columns,), "float32")
        if has_residual:
            R = T.match_buffer(r, (1, num_rows, num_columns), "float32")
        with T.sblock("root"):
            T.attr(T.int32(0), "pragma_import_llvm", definitions)
            body(X, W, Addends(B if has_bias else X, R if has_residual else X), Y, num_rows)

    return matmul


def pair_step_macro(tiles: int) -> Any:
    """The step of `all_rows_macro` for a pair of values of each row. The rows have been rounded."""
    multiplier = Bfloat16Multiplier()

    @T.macro
    def step(operands, totals, row, tile, pair, height):
        words, W = operands
        for j in T.unroll(tiles):
            for i in T.unroll(height):
                totals[i * tiles + j, vector(0)] = multiplier.multiply_add(
                    totals[i * tiles + j, vector(0)],
                    T.reinterpret("uint32x16", W[tile + j, pair, vector(0, 2 * LANES)]),
                    words[0, row + i, pair],
                )

    return step


def widened_step_macro(depth: int, tiles: int) -> Any:
    """The step of `all_rows_macro` for two float32 values of each row, one after the other."""
    multiplier = FloatMultiplier()

    def widened(W: Any, tile: Any, pair: Any, place: int) -> Any:
        words = tirx.reinterpret("uint32x16", W[tile, pair, vector(0, 2 * LANES)])
        if place == 0:
            bits = tirx.shift_left(words, broadcast(tirx.const(16, "uint32")))
        else:
            bits = tirx.bitwise_and(words, broadcast(tirx.const(0xFFFF0000, "uint32")))
        return tirx.reinterpret("float32x16", bits)

    @T.macro
    def add(X, W, totals, row, tile, pair, place, height):
        for j in T.unroll(tiles):
            for i in T.unroll(height):
                totals[i * tiles + j, vector(0)] = multiplier.multiply_add(
                    totals[i * tiles + j, vector(0)],
                    widened(W, tile + j, pair, place),
                    X[0, row + i, pair * 2 + place],
                )

    @T.macro
    def step(operands, totals, row, tile, pair, height):
        X, W = operands
        add(X, W, totals, row, tile, pair, 0, height)
        if depth % 2 == 0 or pair * 2 + 1 < depth:
            add(X, W, totals, row, tile, pair, 1, height)

    return step


def rounding_macro(depth: int) -> Any:
    """The macro `round_rows(X, words, num_rows)`: float32 to the nearest bfloat16, ties to even. The
    last vector of a row is filled up with zeros.
    """

    def rounded(X: Any, row: Any, k: Any) -> Any:
        value = X[0, row, k]
        if depth % LANES != 0:
            inside = X[0, row, tirx.min(k, tirx.const(depth - 1, "int64"))]
            value = tirx.if_then_else(k < depth, inside, tirx.const(0.0, "float32"))
        bits = tirx.reinterpret("uint32", value)
        sixteen = tirx.const(16, "uint32")
        is_odd = tirx.bitwise_and(tirx.shift_right(bits, sixteen), tirx.const(1, "uint32"))
        bits = bits + tirx.const(0x7FFF, "uint32") + is_odd
        return tirx.Cast("uint16", tirx.shift_right(bits, sixteen))

    @T.macro
    def round_row(X, words, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            halves = local((LANES,), "uint16")
            for i in T.serial(-(-depth // LANES)):
                for lane in T.vectorized(LANES):
                    halves[lane] = rounded(X, row, T.int64(i * LANES) + lane)
                words[0, row, vector(i * (LANES // 2), LANES // 2)] = T.reinterpret(
                    "uint32x8", halves[vector(0)]
                )

    @T.macro
    def round_rows(X, words, num_rows):
        if num_rows > FEW_ROWS:
            for row in T.parallel(num_rows):
                round_row(X, words, row)
        else:
            for row in T.serial(num_rows):
                round_row(X, words, row)

    return round_rows
