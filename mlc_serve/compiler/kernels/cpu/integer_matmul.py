"""Y = X W^T for weights that are integers with a scale for each group, and activations quantized the same way.

A group's products are summed up in integers, exactly; then the sum meets both scales and joins a floating-point
sum. Weights are stored unsigned, `offset` above what they stand for: that is made good by where the integer sum
starts, which `quantize` has worked out with the activations. So a group of 32 costs eight dot instructions, a
conversion and two multiplications for each row and tile, and no instruction for the offset.

A task streams its tiles from memory once, in order, and meets with each a few rows that are at hand.
"""

from __future__ import annotations

from typing import Any, Literal

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.dot import Dot
from mlc_serve.compiler.kernels.cpu.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.lanes import LANES
from mlc_serve.compiler.kernels.cpu.local import local
from mlc_serve.quantization.scheme import GroupFormat

# What becomes of a row's sums: nothing, plus a bias, plus a residual, or SiLU(even tiles) * odd tiles.
Epilogue = Literal["none", "bias", "residual", "gated"]

_ROWS_BYTES = 1 << 19  # of activations that every tile is met with, before the next rows are: half of an L2 cache


def integer_matmul(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> tirx.PrimFunc:
    """The product as a PrimFunc. With Kp the depth in whole groups and G their number:

    words `(1, s, Kp / 4)` int32, scales `(1, s, G)` float32, starts `(1, s, G)` int32; weights and their scales
    in the layouts "tiles16-u8" or "tiles16-u4" and "tiles16-scale", for "gated" paired; [bias `(N,)` or
    residual `(1, s, N)`, float32] -> Y `(1, s, N)`, for "gated" `(1, s, N / 2)`.
    """
    product = product_macro(num_columns, depth, groups, epilogue, out_dtype, dot)
    num_groups = groups.padded(depth) // groups.group_size
    words_shape = (groups.padded(depth) // 4,)
    weight_shape, scale_shape = weight_shapes(num_columns, depth, groups)
    out_columns = num_columns // 2 if epilogue == "gated" else num_columns

    if epilogue in ("none", "gated"):

        @T.prim_func(s_tir=True, private=True)
        def matmul(x: T.handle, s: T.handle, z: T.handle, w: T.handle, v: T.handle, y: T.handle):
            T.func_attr({"tirx.noalias": True, "op_pattern": 8})
            num_rows = T.int64()
            X = T.match_buffer(x, (1, num_rows, *words_shape), "int32")
            S = T.match_buffer(s, (1, num_rows, num_groups), "float32")
            Z = T.match_buffer(z, (1, num_rows, num_groups), "int32")
            W = T.match_buffer(w, weight_shape, "uint8")
            V = T.match_buffer(v, scale_shape, groups.scale_dtype)
            Y = T.match_buffer(y, (1, num_rows, out_columns), out_dtype)
            with T.sblock("root"):
                product(X, S, Z, W, V, S, Y, num_rows)

        return matmul

    @T.prim_func(s_tir=True, private=True)
    def matmul_plus(
        x: T.handle, s: T.handle, z: T.handle, w: T.handle, v: T.handle, e: T.handle, y: T.handle
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, *words_shape), "int32")
        S = T.match_buffer(s, (1, num_rows, num_groups), "float32")
        Z = T.match_buffer(z, (1, num_rows, num_groups), "int32")
        W = T.match_buffer(w, weight_shape, "uint8")
        V = T.match_buffer(v, scale_shape, groups.scale_dtype)
        E = T.match_buffer(e, (num_columns,) if epilogue == "bias" else (1, num_rows, num_columns), "float32")
        Y = T.match_buffer(y, (1, num_rows, out_columns), out_dtype)
        with T.sblock("root"):
            product(X, S, Z, W, V, E, Y, num_rows)

    return matmul_plus


def weight_shapes(num_columns: int, depth: int, groups: GroupFormat) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the integers and of the scales of a `(N, K)` weight."""
    num_tiles, padded = -(-num_columns // LANES), groups.padded(depth)
    return (num_tiles, padded * groups.bits // 32, 4 * LANES), (num_tiles, padded // groups.group_size, LANES)


def product_macro(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> Any:
    """The macro `product(X, S, Z, W, V, E, Y, num_rows)`, of the buffers that `integer_matmul` lists."""
    num_tiles = -(-num_columns // LANES)
    tiles = 2 if epilogue == "gated" else dot.tiles if num_tiles % dot.tiles == 0 else 1
    num_groups = groups.padded(depth) // groups.group_size
    num_words = groups.group_size // 4  # of a group
    per_vector = 8 // groups.bits  # words that a vector of weights holds
    columns, parts = dot.columns, LANES // dot.columns
    last_width = num_columns - (num_tiles - 1) * LANES
    rows_at_once = max(_ROWS_BYTES // groups.padded(depth) // 8, 1) * 8
    low_bits = tirx.Broadcast(tirx.const(15, "uint8"), 4 * columns)
    four = tirx.Broadcast(tirx.const(4, "uint8"), 4 * columns)

    @T.macro
    def add_word(X, sums, weights, row, slot, part, word, height):
        """One word of each row times one vector of weights, to the sums of the rows."""
        for i in T.unroll(height):
            sums[slot + i * tiles, T.ramp(part * columns, 1, columns)] = dot.accumulate(
                sums[slot + i * tiles, T.ramp(part * columns, 1, columns)], weights, X[0, row + i, word]
            )

    @T.macro
    def add_vector(X, sums, weights, row, slot, part, word, height):
        """One vector of weights as it is stored: eight-bit ones, or twice as many of four bits."""
        if groups.bits == 8:
            add_word(X, sums, weights, row, slot, part, word, height)
        else:
            add_word(X, sums, tirx.bitwise_and(weights, low_bits), row, slot, part, word, height)
            add_word(X, sums, tirx.shift_right(weights, four), row, slot, part, word + 1, height)

    @T.macro
    def add_group(X, W, sums, row, tile, group, height):
        for step in T.unroll(num_words // per_vector):
            for j in T.unroll(tiles):
                for part in T.unroll(parts):
                    add_vector(
                        X, sums,
                        W[
                            tile + j,
                            group * (num_words // per_vector) + step,
                            T.ramp(part * 4 * columns, 1, 4 * columns),
                        ],
                        row, j, part, group * num_words + step * per_vector, height,
                    )

    @T.macro
    def store(totals, E, Y, row, tile, slot, lane):
        if epilogue == "bias":
            Y[0, row, tile * LANES + lane] = T.Cast(out_dtype, totals[slot, lane] + E[tile * LANES + lane])
        elif epilogue == "residual":
            Y[0, row, tile * LANES + lane] = T.Cast(
                out_dtype, totals[slot, lane] + E[0, row, tile * LANES + lane]
            )
        else:
            Y[0, row, tile * LANES + lane] = T.Cast(out_dtype, totals[slot, lane])

    @T.macro
    def store_tile(totals, E, Y, row, tile, slot):
        if last_width == LANES or tile < num_tiles - 1:
            for lane in T.vectorized(LANES):
                store(totals, E, Y, row, tile, slot, lane)
        else:
            for lane in T.serial(last_width):
                store(totals, E, Y, row, tile, slot, lane)

    @T.macro
    def rows(X, S, Z, W, V, E, Y, row, tile, height):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            sums = local((height * tiles, LANES), "int32")
            totals = local((height * tiles, LANES))
            for slot in T.unroll(height * tiles):
                for lane in T.vectorized(LANES):
                    totals[slot, lane] = T.float32(0)
            for group in T.serial(num_groups):
                for i in T.unroll(height):
                    for j in T.unroll(tiles):
                        for lane in T.vectorized(LANES):
                            sums[i * tiles + j, lane] = Z[0, row + i, group]
                add_group(X, W, sums, row, tile, group, height)
                for i in T.unroll(height):
                    for j in T.unroll(tiles):
                        for lane in T.vectorized(LANES):
                            totals[i * tiles + j, lane] = totals[i * tiles + j, lane] + T.Cast(
                                "float32", sums[i * tiles + j, lane]
                            ) * (T.Cast("float32", V[tile + j, group, lane]) * S[0, row + i, group])
            for i in T.unroll(height):
                if epilogue == "gated":
                    for lane in T.vectorized(LANES):
                        Y[0, row + i, tile // 2 * LANES + lane] = T.Cast(
                            out_dtype,
                            totals[i * 2, lane] * sigmoid(totals[i * 2, lane]) * totals[i * 2 + 1, lane],
                        )
                else:
                    for j in T.unroll(tiles):
                        store_tile(totals, E, Y, row + i, tile + j, i * tiles + j)

    @T.macro
    def tile_rows(X, S, Z, W, V, E, Y, start, count, tile):
        for k in T.serial(count // dot.rows):
            rows(X, S, Z, W, V, E, Y, start + k * dot.rows, tile, dot.rows)
        if dot.rows == 4:
            if count % 4 >= 2:
                rows(X, S, Z, W, V, E, Y, start + count // 4 * 4, tile, 2)
        if dot.rows >= 2:
            if count % 2 == 1:
                rows(X, S, Z, W, V, E, Y, start + count - 1, tile, 1)

    @T.macro
    def product(X, S, Z, W, V, E, Y, num_rows):
        for stretch in T.serial((num_rows + (rows_at_once - 1)) // rows_at_once):
            for block in T.parallel(num_tiles // tiles):
                tile_rows(
                    X, S, Z, W, V, E, Y, stretch * rows_at_once,
                    T.min(num_rows - stretch * rows_at_once, T.int64(rows_at_once)), block * tiles,
                )

    return product
