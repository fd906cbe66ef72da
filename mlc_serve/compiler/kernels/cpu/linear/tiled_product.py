"""How products with weights in tiles of 16 columns go through rows, tiles and depth, for any type of weights.

A thread streams its tiles from memory once, in order, and multiplies each by a few rows at a time, whose sums
are in registers. All but the first few rows of a batch find the tile in the cache. Memory would be idle
meanwhile, so the next tile is fetched where that is faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, store_macro
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.quantization.packing import LANES, num_tiles

# Bytes of activations per pass over the weights: half of an L2 cache.
_PASS_BYTES = 1 << 19
_FETCHING_ROWS = 16  # the first rows of a pass, during which the next tile is fetched


@dataclass(frozen=True)
class Tiling:
    """The extents of the loops of a product."""

    num_columns: int
    num_steps: int  # through the depth
    row_bytes: int  # of a row of activations
    tiles: int  # that have their sums in registers at a time
    rows: int  # that have their sums in registers at a time: 1, 2, 4 or 8

    @classmethod
    def fit(
        cls, num_columns: int, num_steps: int, row_bytes: int, epilogue: Epilogue, room: tuple[int, int]
    ) -> Tiling:
        """The tiling for registers with room for so many tiles by so many rows. Two tiles if it is gated."""
        tiles, rows = room
        if epilogue.gated:
            return cls(num_columns, num_steps, row_bytes, 2, max(rows * tiles // 2, 1))
        tiles = tiles if num_tiles(num_columns) % tiles == 0 else 1
        return cls(num_columns, num_steps, row_bytes, tiles, rows)


def tiled_product_macro(
    tiling: Tiling, step: Any, epilogue: Epilogue, out_dtype: str, fetch: Any = None
) -> Any:
    """The macro `product(operands, addends, Y, num_rows)`, with addends and Y as `store_macro` has them.
    `step` and `fetch` are those of `all_rows_macro`.
    """
    tiles = tiling.tiles
    pass_rows = max(_PASS_BYTES // tiling.row_bytes // 8, 1) * 8
    store = store_macro(tiling.num_columns, epilogue, out_dtype, tiles)
    all_rows = all_rows_macro(tiling, step, store, fetch)

    @T.macro
    def product(operands, addends, Y, num_rows):
        for part in T.serial((num_rows + (pass_rows - 1)) // pass_rows):
            for task in T.parallel(num_tiles(tiling.num_columns) // tiles):
                all_rows(
                    operands,
                    addends,
                    Y,
                    part * pass_rows,
                    T.min(num_rows - part * pass_rows, T.int64(pass_rows)),
                    task * tiles,
                    (task + 1) * tiles,
                )

    return product


def all_rows_macro(tiling: Tiling, step: Any, store: Any, fetch: Any = None) -> Any:
    """The macro `all_rows(operands, to, Y, start, count, tile, next_tile)`: multiply `count` rows from
    `start` by the tiles from `tile`. The tiles from `next_tile` are read after that; they may be beyond the
    weight's end.

    The macro `step(operands, totals, row, tile, k, height)` adds step k of `height` rows from `row` and of
    the tiles from `tile` to the totals `(height * tiles, 16)`. The macro `store(totals, to, Y, row, tile,
    height)` writes their results. If there is a macro `fetch(operands, tile, k)`, it requests the weights
    that this step will read.
    """
    tiles, most = tiling.tiles, tiling.rows

    @T.macro
    def rows(operands, to, Y, start, row, tile, next_tile, height):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            totals = local((height * tiles, LANES))
            for register in T.unroll(height * tiles):
                for lane in T.vectorized(LANES):
                    totals[register, lane] = T.float32(0)
            for k in T.serial(tiling.num_steps):
                if fetch is not None:  # noqa: SIM102  known while this is parsed
                    if T.And(row > start, row < start + _FETCHING_ROWS):
                        fetch(operands, next_tile, k)
                step(operands, totals, row, tile, k, height)
            store(totals, to, Y, row, tile, height)

    @T.macro
    def all_rows(operands, to, Y, start, count, tile, next_tile):
        """Take as many rows at a time as registers have room for, and the remaining ones in powers of two."""
        for k in T.serial(count // most):
            rows(operands, to, Y, start, start + k * most, tile, next_tile, most)
        if most >= 8:  # noqa: SIM102  known while this is parsed
            if count % 8 >= 4:
                rows(operands, to, Y, start, start + count // 8 * 8, tile, next_tile, 4)
        if most >= 4:  # noqa: SIM102  known while this is parsed
            if count % 4 >= 2:
                rows(operands, to, Y, start, start + count // 4 * 4, tile, next_tile, 2)
        if most >= 2:  # noqa: SIM102  known while this is parsed
            if count % 2 == 1:
                rows(operands, to, Y, start, start + count - 1, tile, next_tile, 1)

    return all_rows
