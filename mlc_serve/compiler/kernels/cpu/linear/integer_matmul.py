"""Y = X W^T for weights that are integers with a scale for each group, and activations quantized likewise.

The products of a group are added up in integers, exactly. Then the sum is multiplied by both scales and added
to a float32 sum. Weights are stored unsigned: a stored weight is `offset` greater than its value. To cancel
that, the integer sums start from numbers that `activation_bytes` has computed with the activations, so no
instruction is spent on the offset: with AVX-512 VNNI a group of 32 costs eight dot instructions, a conversion
and two multiplications for each row and tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, tiled_product_macro
from mlc_serve.compiler.kernels.cpu.primitives.prefetch import fetch_line
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector
from mlc_serve.quantization.packing import LANES
from mlc_serve.quantization.scheme import GroupFormat


class IntegerOperands(NamedTuple):
    """The factors of a product. For a gated epilogue, tiles of gate and up alternate in the weight."""

    rows: ByteRows
    weights: Any  # in the layout "tiles16-u8" or "tiles16-u4"
    weight_scales: Any  # in the layout "tiles16-scale"


class _Sum(NamedTuple):
    """Where a vector of sums is, and what it is the sum of."""

    register: Any  # of `sums` and `totals`
    part: Any  # of the register, of as many columns as `Dot` has
    row: Any
    tile: Any
    group: Any


def product_macro(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> Any:
    """The macro `product(operands, addends, Y, num_rows)`: `IntegerOperands`, and the epilogue's `Addends` ->
    Y `(1, s, N)` of `out_dtype`, or `(1, s, N / 2)` if it is gated.
    """
    room = (dot.tiles, dot.rows)
    tiling = Tiling.fit(num_columns, groups.count(depth), groups.padded(depth), epilogue, room)
    step, fetch = step_macro(groups, dot, tiling.tiles), fetch_macro(groups, dot, tiling.tiles)
    return tiled_product_macro(tiling, step, epilogue, out_dtype, fetch)


def fetch_macro(groups: GroupFormat, dot: Dot, tiles: int) -> Any:
    """The fetch of `all_rows_macro` for a group, or None.

    Where a step is few instructions, the processor looks far enough ahead by itself, and fetching would cost
    more time than it saves.
    """
    if dot.is_one_instruction:
        return None
    num_vectors = groups.group_size * groups.bits // 32

    @T.macro
    def fetch(operands, tile, group):
        for j in T.unroll(tiles):
            for i in T.unroll(num_vectors):
                T.evaluate(fetch_line(operands.weights[tile + j, group * num_vectors + i, 0]))

    return fetch


def step_macro(groups: GroupFormat, dot: Dot, tiles: int) -> Any:
    """The step of `all_rows_macro` for a group."""
    columns, parts = dot.columns, LANES // dot.columns
    floats = f"float32x{columns}"
    add_group = _group_macro(groups, dot, tiles)

    @T.macro
    def begin(operands, sums, at):
        sums[at.register, vector(at.part * columns, columns)] = dot.begin(
            operands.rows.starts[0, at.row, at.group]
        )

    @T.macro
    def end(operands, sums, totals, at):
        lanes = T.meta_var(vector(at.part * columns, columns))
        totals[at.register, lanes] = totals[at.register, lanes] + T.Cast(
            floats, dot.end(sums[at.register, lanes], operands.rows.starts[0, at.row, at.group])
        ) * (
            T.Cast(floats, operands.weight_scales[at.tile, at.group, lanes])
            * broadcast(operands.rows.scales[0, at.row, at.group], columns)
        )

    @T.macro
    def step(operands, totals, row, tile, group, height):
        with T.sblock("group"):
            T.reads()
            T.writes()
            sums = local((height * tiles, LANES), "int32")
            for i in T.unroll(height):
                for j in T.unroll(tiles):
                    for part in T.unroll(parts):
                        begin(operands, sums, _Sum(i * tiles + j, part, row + i, tile + j, group))
            add_group(operands, sums, row, tile, group, height)
            for i in T.unroll(height):
                for j in T.unroll(tiles):
                    for part in T.unroll(parts):
                        end(operands, sums, totals, _Sum(i * tiles + j, part, row + i, tile + j, group))

    return step


def _group_macro(groups: GroupFormat, dot: Dot, tiles: int) -> Any:
    """The macro `add_group(operands, sums, row, tile, group, height)`: add the products of a group to the
    sums of `height` rows from `row` and of the tiles from `tile`.
    """
    num_words = groups.group_size // 4  # of a group
    per_vector = 8 // groups.bits  # words that a vector of weights holds
    columns, parts = dot.columns, LANES // dot.columns
    low_bits = broadcast(tirx.const(15, "uint8"), 4 * columns)
    four = broadcast(tirx.const(4, "uint8"), 4 * columns)
    # If `add` is several instructions and the steps are unrolled, LLVM orders them so that the weights of a
    # whole group are needed at once and do not stay in registers. In a loop it can't.
    steps = T.unroll if dot.is_one_instruction else T.serial

    @T.macro
    def add_word(operands, sums, weights, first, word, height):
        """Add one word of each row times one vector of weights to the sums of the rows."""
        for i in T.unroll(height):
            lanes = T.meta_var(vector(first.part * columns, columns))
            sums[first.register + i * tiles, lanes] = dot.add(
                sums[first.register + i * tiles, lanes], weights, operands.rows.words[0, first.row + i, word]
            )

    @T.macro
    def add_vector(operands, sums, weights, first, word, height):
        """Add one vector of weights as it is stored: one word of eight-bit weights, or two of four bits."""
        if groups.bits == 8:
            add_word(operands, sums, weights, first, word, height)
        else:
            add_word(operands, sums, tirx.bitwise_and(weights, low_bits), first, word, height)
            add_word(operands, sums, tirx.shift_right(weights, four), first, word + 1, height)

    @T.macro
    def add_group(operands, sums, row, tile, group, height):
        for step in steps(num_words // per_vector):
            for j in T.unroll(tiles):
                for part in T.unroll(parts):
                    add_vector(
                        operands,
                        sums,
                        operands.weights[
                            tile + j,
                            group * (num_words // per_vector) + step,
                            vector(part * 4 * columns, 4 * columns),
                        ],
                        _Sum(j, part, row, tile + j, group),
                        group * num_words + step * per_vector,
                        height,
                    )

    return add_group
