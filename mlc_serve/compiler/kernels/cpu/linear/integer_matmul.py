"""Y = X W^T for weights that are integers with a scale for each group, and activations quantized likewise.

A group's products are summed up in integers, exactly; then the sum meets both scales and joins a floating-
point sum. Weights are stored unsigned, `offset` above what they stand for: that is made good by where the
integer sum starts, which `quantize` has worked out with the activations. So a group of 32 costs eight dot
instructions of AVX-512 VNNI, a conversion and two multiplications for each row and tile, and no instruction
for the offset.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, tiled_product_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import LANES
from mlc_serve.compiler.kernels.cpu.primitives.local import local
from mlc_serve.compiler.kernels.cpu.primitives.prefetch import fetch_line
from mlc_serve.quantization.scheme import GroupFormat


def weight_shapes(
    num_columns: int, depth: int, groups: GroupFormat
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the integers and of the scales of a `(N, K)` weight."""
    num_tiles, padded = -(-num_columns // LANES), groups.padded(depth)
    return (num_tiles, padded * groups.bits // 32, 4 * LANES), (num_tiles, padded // groups.group_size, LANES)


def product_macro(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> Any:
    """The macro `product((X, S, Z, W, V), E, Y, num_rows)`. With Kp the depth in whole groups and G their
    number:

    words `(1, s, Kp / 4)` int32, scales `(1, s, G)` float32, starts `(1, s, G)` int32, as `quantize` makes
    them; weights and scales in the layouts "tiles16-u8" or "tiles16-u4" and "tiles16-scale", for "gated"
    paired; a bias `(N,)` or residual `(1, s, N)` float32 (read with such an epilogue only) -> Y `(1, s, N)`
    of `out_dtype`, for "gated" `(1, s, N / 2)`. What is not read may be any buffer.
    """
    padded = groups.padded(depth)
    num_groups = padded // groups.group_size
    tiling = Tiling.fit(num_columns, num_groups, padded, epilogue, (dot.tiles, dot.rows))
    step, fetch = _step_macro(groups, dot, tiling.tiles), _fetch_macro(groups, tiling.tiles)
    return tiled_product_macro(tiling, step, epilogue, out_dtype, fetch)


def _fetch_macro(groups: GroupFormat, tiles: int) -> Any:
    """The fetch of `tiled_product_macro` for a group."""
    num_vectors = groups.group_size * groups.bits // 32

    @T.macro
    def fetch(operands, tile, group):
        for j in T.unroll(tiles):
            for vector in T.unroll(num_vectors):
                T.evaluate(fetch_line(operands[3][tile + j, group * num_vectors + vector, 0]))

    return fetch


def _step_macro(groups: GroupFormat, dot: Dot, tiles: int) -> Any:
    """The step of `tiled_product_macro` for a group."""
    columns, parts = dot.columns, LANES // dot.columns
    floats = f"float32x{columns}"
    add_group = _group_macro(groups, dot, tiles)

    @T.macro
    def begin(Z, sums, row, group, slot, part):
        sums[slot, T.ramp(part * columns, 1, columns)] = dot.begin(Z[0, row, group])

    @T.macro
    def end(S, Z, V, sums, totals, row, tile, group, slot, part):
        totals[slot, T.ramp(part * columns, 1, columns)] = totals[
            slot, T.ramp(part * columns, 1, columns)
        ] + T.Cast(floats, dot.end(sums[slot, T.ramp(part * columns, 1, columns)], Z[0, row, group])) * (
            T.Cast(floats, V[tile, group, T.ramp(part * columns, 1, columns)])
            * T.Broadcast(S[0, row, group], columns)
        )

    @T.macro
    def step(operands, totals, row, tile, group, height):
        with T.sblock("group"):
            T.reads()
            T.writes()
            X, S, Z, W, V = operands
            sums = local((height * tiles, LANES), "int32")
            for i in T.unroll(height):
                for j in T.unroll(tiles):
                    for part in T.unroll(parts):
                        begin(Z, sums, row + i, group, i * tiles + j, part)
            add_group(X, W, sums, row, tile, group, height)
            for i in T.unroll(height):
                for j in T.unroll(tiles):
                    for part in T.unroll(parts):
                        end(S, Z, V, sums, totals, row + i, tile + j, group, i * tiles + j, part)

    return step


def _group_macro(groups: GroupFormat, dot: Dot, tiles: int) -> Any:
    """The macro `add_group(X, W, sums, row, tile, group, height)`: the products of one group, to the sums."""
    num_words = groups.group_size // 4  # of a group
    per_vector = 8 // groups.bits  # words that a vector of weights holds
    columns, parts = dot.columns, LANES // dot.columns
    low_bits = tirx.Broadcast(tirx.const(15, "uint8"), 4 * columns)
    four = tirx.Broadcast(tirx.const(4, "uint8"), 4 * columns)
    # LLVM puts additions of their own in an order that holds the weights of a whole group at once, in memory.
    steps = T.unroll if dot.is_one_instruction else T.serial

    @T.macro
    def add_word(X, sums, weights, row, slot, part, word, height):
        """One word of each row times one vector of weights, to the sums of the rows."""
        for i in T.unroll(height):
            sums[slot + i * tiles, T.ramp(part * columns, 1, columns)] = dot.add(
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
        for step in steps(num_words // per_vector):
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
                    )  # fmt: skip

    return add_group
