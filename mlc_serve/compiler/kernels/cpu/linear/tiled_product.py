"""How products with weights in tiles of 16 columns walk through rows, tiles and depth, whatever the weights.

A task streams its tiles from memory once, in order, and meets with each a few rows that are at hand: their
sums are in registers. A batch of any size takes the tile from the cache after the first few rows, and the
next tile may be fetched meanwhile: memory would be idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, store_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import LANES
from mlc_serve.compiler.kernels.cpu.primitives.local import local

# Of activations that every tile is met with, before the next rows are: half of an L2 cache.
_ROWS_BYTES = 1 << 19
_FETCHING_ROWS = 16  # the next tile is fetched while the first of them are met; after that it is at hand


@dataclass(frozen=True)
class Tiling:
    """Steps through the depth; bytes of a row of activations; `rows` rows (1, 2, 4 or 8) by `tiles` tiles,
    whose sums are in registers.
    """

    num_columns: int
    num_steps: int
    row_bytes: int
    tiles: int
    rows: int

    @classmethod
    def fit(
        cls, num_columns: int, num_steps: int, row_bytes: int, epilogue: Epilogue, room: tuple[int, int]
    ) -> Tiling:
        """With room in registers for so many tiles by so many rows; "gated" takes two tiles."""
        tiles, rows = room
        if epilogue == "gated":
            return cls(num_columns, num_steps, row_bytes, 2, max(rows * tiles // 2, 1))
        tiles = tiles if -(-num_columns // LANES) % tiles == 0 else 1
        return cls(num_columns, num_steps, row_bytes, tiles, rows)


def tiled_product_macro(
    tiling: Tiling, step: Any, epilogue: Epilogue, out_dtype: str, fetch: Any = None
) -> Any:
    """The macro `product(operands, E, Y, num_rows)`: E and Y as `store_macro` has them.

    The macro `step(operands, totals, row, tile, k, height)` adds step k of `height` rows from `row` and of
    the tiles from `tile` to the totals `(height * tiles, 16)`; `fetch(operands, tile, k)`, if there is one,
    asks for what that will read of the weights, which may be beyond their end.
    """
    tiles, most = tiling.tiles, tiling.rows
    num_tiles = -(-tiling.num_columns // LANES)
    rows_at_once = max(_ROWS_BYTES // tiling.row_bytes // 8, 1) * 8
    store = store_macro(tiling.num_columns, epilogue, out_dtype, tiles)

    @T.macro
    def rows(operands, E, Y, start, row, tile, height):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            totals = local((height * tiles, LANES))
            for slot in T.unroll(height * tiles):
                for lane in T.vectorized(LANES):
                    totals[slot, lane] = T.float32(0)
            for k in T.serial(tiling.num_steps):
                if fetch is not None:  # noqa: SIM102  known while this is parsed
                    if T.And(row > start, row < start + _FETCHING_ROWS):
                        fetch(operands, tile + tiles, k)
                step(operands, totals, row, tile, k, height)
            store(totals, E, Y, row, tile, height)

    @T.macro
    def all_rows(operands, E, Y, start, count, tile):
        """As many rows as there is room for, and of what is left the powers of two."""
        for k in T.serial(count // most):
            rows(operands, E, Y, start, start + k * most, tile, most)
        if most >= 8:  # noqa: SIM102  known while this is parsed
            if count % 8 >= 4:
                rows(operands, E, Y, start, start + count // 8 * 8, tile, 4)
        if most >= 4:  # noqa: SIM102  known while this is parsed
            if count % 4 >= 2:
                rows(operands, E, Y, start, start + count // 4 * 4, tile, 2)
        if most >= 2:  # noqa: SIM102  known while this is parsed
            if count % 2 == 1:
                rows(operands, E, Y, start, start + count - 1, tile, 1)

    @T.macro
    def product(operands, E, Y, num_rows):
        for stretch in T.serial((num_rows + (rows_at_once - 1)) // rows_at_once):
            for block in T.parallel(num_tiles // tiles):
                all_rows(
                    operands,
                    E,
                    Y,
                    stretch * rows_at_once,
                    T.min(num_rows - stretch * rows_at_once, T.int64(rows_at_once)),
                    block * tiles,
                )

    return product
